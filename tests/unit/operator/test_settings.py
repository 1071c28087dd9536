"""What the doctor says of a configuration that is allowed, and that somebody will regret."""

from __future__ import annotations

import pytest

from notifier.config import DEV_OPERATOR, Admin, Config, Secret, Server
from notifier.operator.doctor import settings

ANN = [Secret(DEV_OPERATOR.replace("dev:", "ann:", 1))]
ON_CLIENTS = "the operators' view is served on the same address as clients are"
IN_THE_CLEAR = "operators' passwords come here without TLS, unless a proxy before it speaks TLS"


@pytest.mark.parametrize(
    ("server", "admin", "told"),
    [
        (Server(host="0.0.0.0"), Admin(), set()),
        (Server(), Admin(operators=ANN), set()),
        (Server(host="0.0.0.0"), Admin(operators=ANN), {ON_CLIENTS, IN_THE_CLEAR}),
        (Server(host="0.0.0.0"), Admin(operators=ANN, port=9000), set()),
        (Server(), Admin(operators=ANN, port=9000, host="10.0.0.1"), {IN_THE_CLEAR}),
        (Server(tls_certificate="a", tls_key="b"), Admin(operators=ANN, port=9000, host="10.0.0.1"), set()),
    ],
)
async def test_an_operators_view_that_others_can_reach_is_told(server: Server, admin: Admin, told: set[str]) -> None:
    findings = await settings.look(Config(server=server, admin=admin))
    assert {each.text for each in findings if "operators'" in each.text} == told
