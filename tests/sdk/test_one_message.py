"""One message of a backend, and everybody who should see it, whatever they listen with."""

from __future__ import annotations

from tests.sdk.conftest import NewClient, NewJavaScript
from tests.servers import Backend, NewServer, ServerProcess, make_token, on_rabbitmq
from tests.services.deadline import eventually
from tests.services.rabbitmq import RabbitMQ


async def test_one_message_reaches_its_user_over_every_library_and_nobody_else(
    rabbitmq: RabbitMQ, new_server: NewServer, new_javascript: NewJavaScript, new_python: NewClient
) -> None:
    server = await new_server(on_rabbitmq(rabbitmq.url))
    token = make_token("42")
    javascript = await new_javascript(server, token)
    python = await new_python(server, token)
    page = await new_javascript(server, token, connected=False)
    stranger = await new_python(server, make_token("43"))
    await javascript.subscribe("user.42")
    await python.subscribe("user.42")
    await page.listen(f"{server.url}/sse?channels=user.42", token, ["notifier.subscribed"])
    await stranger.subscribe("user.42")
    await stranger.subscribe("user.43")
    await eventually(lambda: javascript.state_of("user.42") == python.state_of("user.42") == "subscribed")
    await page.told("notifier.subscribed")
    await stranger.told("unsubscribed", "user.42")
    await eventually(lambda: stranger.state_of("user.43") == "subscribed")

    async with Backend(server) as backend:
        await backend.publish("user.42", {"text": "for 42 only"})
        # The log has one order: who got this one got everything before it that he should have.
        await backend.publish("user.43", "a fence", headers={"channels": "user.42"})

    await eventually(lambda: stranger.data("user.43"))
    await eventually(lambda: len(javascript.data("user.42")) == len(python.data("user.42")) == 2)
    await eventually(lambda: len(page.all("message")) == 2)
    assert javascript.data("user.42") == python.data("user.42") == [{"text": "for 42 only"}, "a fence"]
    assert [event.data for event in page.all("message")] == [{"text": "for 42 only"}, "a fence"]
    assert stranger.data("user.43") == ["a fence"]
    assert stranger.data("user.42") == []


async def test_an_eventsource_to_a_channel_of_somebody_else_is_refused(
    server: ServerProcess, new_javascript: NewJavaScript
) -> None:
    page = await new_javascript(server, make_token("43"), connected=False)
    await page.listen(f"{server.url}/sse?channels=user.42", make_token("43"))
    refused = await page.told("failed")
    assert refused.code == 403
    assert page.all("opened") == []
