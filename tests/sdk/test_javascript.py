"""The suite over the JavaScript library."""

from __future__ import annotations

import pytest

from tests.sdk.conftest import NewClient
from tests.sdk.contract import Contract


class TestJavaScript(Contract):
    @pytest.fixture
    def new_client(self, new_javascript: NewClient) -> NewClient:
        return new_javascript
