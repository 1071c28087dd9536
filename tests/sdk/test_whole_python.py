"""The whole protocol with the Python library, in both encodings."""

from __future__ import annotations

from functools import partial

import pytest

from tests.sdk.conftest import NewClient
from tests.sdk.python import WAYS
from tests.sdk.whole import Whole


class TestWholePython(Whole):
    @pytest.fixture(params=WAYS, ids=str)
    def new_client(self, request: pytest.FixtureRequest, new_python: NewClient) -> NewClient:
        return partial(new_python, way=request.param)
