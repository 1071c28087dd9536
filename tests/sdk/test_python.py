"""The suite over the Python library."""

from __future__ import annotations

import pytest

from tests.sdk.conftest import NewClient
from tests.sdk.contract import Contract


class TestPython(Contract):
    @pytest.fixture
    def new_client(self, new_python: NewClient) -> NewClient:
        return new_python
