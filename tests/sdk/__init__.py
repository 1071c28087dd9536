"""The public client libraries against the real server."""

import pytest

pytest.register_assert_rewrite("tests.sdk.contract")
