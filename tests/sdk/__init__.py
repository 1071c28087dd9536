"""The public client libraries against the real server."""

import pytest

for module in ("publications", "access", "recovery", "steps"):
    pytest.register_assert_rewrite(f"{__name__}.{module}")
