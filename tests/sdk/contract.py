"""What each client library must see of the server: one suite, run over every library.

A library's file subclasses `Contract` and has a fixture `new_client`.
"""

from __future__ import annotations

from tests.sdk.access import Access
from tests.sdk.publications import Publications
from tests.sdk.recovery import Recovery


class Contract(Publications, Access, Recovery):
    """The suite."""
