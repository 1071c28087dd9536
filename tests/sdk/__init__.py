"""The public client libraries against the real server."""

import pytest

for module in (
    *("publications", "access", "recovery", "steps"),
    *("conversation", "company", "given", "forms", "positions", "remote"),
):
    pytest.register_assert_rewrite(f"{__name__}.{module}")
