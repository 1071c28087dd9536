"""The whole protocol with the JavaScript library, over all its transports and encodings."""

from __future__ import annotations

from functools import partial

import pytest

from tests.sdk.cluster import Shop
from tests.sdk.conftest import NewClient, NewJavaScript
from tests.sdk.javascript import WAYS
from tests.sdk.whole import Whole
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually


class TestWholeJavaScript(Whole):
    @pytest.fixture(params=WAYS, ids=str)
    def new_client(self, request: pytest.FixtureRequest, new_javascript: NewJavaScript) -> NewClient:
        return partial(new_javascript, way=request.param)

    async def test_what_clients_send_goes_to_a_backend(self, server: ServerProcess, new_client: NewJavaScript) -> None:
        client = await new_client(server, make_token("ann"))
        async with Shop(server) as shop:
            await client.send({"seen": "Käse"})
            await client.send(2)
            await eventually(lambda: len(shop.sent) == 2)
        assert shop.sent == [("ann", {"seen": "Käse"}), ("ann", 2)]

    async def test_what_cannot_be_handed_on_costs_no_connection(
        self, server: ServerProcess, new_client: NewJavaScript
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await client.send("to a queue that is not there")
        await client.rpc("notifier.time", None)
        await client.rpc("notifier.time", None)
        assert (client.state, len(client.all("connecting"))) == ("connected", 1)
