"""The whole protocol: one suite, run over every library, transport and encoding.

A library's file subclasses `Whole` and has a fixture `new_client`.
"""

from __future__ import annotations

import pytest

from tests.sdk.cluster import Cluster
from tests.sdk.company import Company
from tests.sdk.conversation import Conversation
from tests.sdk.forms import Forms
from tests.sdk.given import Given
from tests.sdk.positions import Positions
from tests.sdk.remote import Remote
from tests.servers import ServerProcess


class Whole(Conversation, Company, Given, Forms, Positions, Remote):
    """The suite."""

    @pytest.fixture
    def server(self, nodes: Cluster) -> ServerProcess:
        return nodes.one
