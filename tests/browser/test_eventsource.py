"""A page's plain EventSource: names, resuming, and who may listen from where."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import BrowserContext, Page

from tests.browser.site import FOREIGN, OURS, Listener, Site
from tests.sdk.load import Load
from tests.servers import Backend, NewServer, ServerProcess, make_token, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.rabbitmq import RabbitMQ

ANONYMOUS = {"auth": {"anonymous": True}}
QUICK = {"clients": {"sse_retry": "100ms", "sse_heartbeat": "1s"}}
TOLD = "notifier.subscribed"


@pytest.fixture
async def page(context: BrowserContext, site: Site) -> Page:
    page = await context.new_page()
    await page.goto(site.origin())
    return page


@pytest.fixture
def listener(page: Page) -> Listener:
    return Listener(page)


async def test_events_have_the_name_that_the_backend_gave_them(
    rabbitmq: RabbitMQ, new_server: NewServer, listener: Listener
) -> None:
    server = await new_server({**on_rabbitmq(rabbitmq.url), **ANONYMOUS})
    await listener.open(f"{server.url}/sse?channels=open.orders", "paid", TOLD)
    await listener.is_subscribed()
    async with Backend(server) as backend:
        await backend.publish("open.orders", {"order": 1}, type="paid")
        await backend.publish("open.orders", {"order": 2}, type="a name that nobody listens to")
        await backend.publish("open.orders", {"order": 3})
    await eventually(listener.data)
    heard = [(event.type, event.data) for event in await listener.seen("paid", "message")]
    assert heard == [("paid", {"order": 1}), ("message", {"order": 3})]


async def test_a_page_that_loses_the_server_misses_nothing_and_sees_nothing_twice(
    rabbitmq: RabbitMQ, new_server: NewServer, listener: Listener
) -> None:
    server = await new_server({**on_rabbitmq(rabbitmq.url), **ANONYMOUS, **QUICK})
    channels = ["open.a", "open.b"]
    await listener.open(f"{server.url}/sse?channels={','.join(channels)}&envelope=1", TOLD)
    await listener.is_subscribed()
    async with Load(server, channels, []) as load:
        for times in (2, 3, 4):
            await load.go_on_for(50)
            server.kill()
            await load.go_on_for(50)
            await server.start()
            await listener.is_subscribed(times)
        await load.stop()
    await eventually(lambda: _has_heard(listener, sum(map(len, load.confirmed.values()))), 30 * SECOND)
    heard = await listener.data()
    for channel in channels:
        assert [event["data"] for event in heard if event["channel"] == channel] == load.confirmed[channel]
    offsets = [event["offset"] for event in heard]
    assert offsets == sorted(set(offsets)), "both channels together come in the log's order"
    told = [event.data for event in await listener.seen(TOLD)]
    assert [one["was_recovering"] for one in told] == [False, True, True, True]
    assert [one["recovered"] for one in told] == [False, True, True, True]


async def test_one_message_for_two_channels_of_a_page_comes_once_for_each_across_a_restart(
    rabbitmq: RabbitMQ, new_server: NewServer, listener: Listener
) -> None:
    server = await new_server({**on_rabbitmq(rabbitmq.url), **ANONYMOUS, **QUICK})
    await listener.open(f"{server.url}/sse?channels=open.a,open.b&envelope=1", TOLD)
    await listener.is_subscribed()
    async with Backend(server) as backend:
        await backend.publish("open.a", 1, headers={"channels": "open.b"})
        await eventually(lambda: _has_heard(listener, 2))
        server.kill()
        await backend.publish("open.a", 2, headers={"channels": "open.b"})
        await server.start()
    await eventually(lambda: _has_heard(listener, 4))
    heard = [(event["channel"], event["data"]) for event in await listener.data()]
    assert heard == [("open.a", 1), ("open.b", 1), ("open.a", 2), ("open.b", 2)]


async def test_a_page_is_told_what_it_cannot_have_back(new_server: NewServer, listener: Listener) -> None:
    server = await new_server({**ANONYMOUS, **QUICK})
    await listener.open(f"{server.url}/sse?channels=open.news", TOLD)
    await listener.is_subscribed()
    await server.publish("open.news", "before")
    await eventually(listener.data)
    server.kill()
    await server.start()  # its log was in memory
    await listener.is_subscribed(2)
    told = (await listener.seen(TOLD))[1].data
    assert (told["was_recovering"], told["recovered"]) == (True, False)
    assert told["channels"]["open.news"]["reason"]
    await server.publish("open.news", "after")
    await eventually(lambda: _has_heard(listener, 2))
    assert await listener.data() == ["before", "after"]


async def test_a_page_comes_back_by_itself_after_an_orderly_end(new_server: NewServer, listener: Listener) -> None:
    server = await new_server({**ANONYMOUS, **QUICK})
    await listener.open(f"{server.url}/sse?channels=open.news", TOLD, "notifier.disconnect")
    await listener.is_subscribed()
    await server.terminate()
    [told] = await listener.seen("notifier.disconnect")
    assert (told.data["code"], told.data["reconnect"]) == (3001, True)
    await server.start()
    await listener.is_subscribed(2)


async def test_a_quiet_page_moves_on_with_the_log_and_its_app_is_shown_nothing(
    new_server: NewServer, listener: Listener
) -> None:
    server = await new_server({**ANONYMOUS, **QUICK})
    await listener.open(f"{server.url}/sse?channels=open.quiet", TOLD)
    await listener.is_subscribed()
    offset = [await server.publish("open.busy", number) for number in range(10)][-1]
    await _heartbeats(server, 3)  # then at least one has come to the page too
    server.kill()
    assert await _offset_brought_back_to(server.port) == offset
    assert await listener.data() == []
    assert len(await listener.seen()) == 1, "the first event, and no other"


async def test_a_cookie_says_who_the_page_s_user_is(
    new_server: NewServer, context: BrowserContext, site: Site, page: Page
) -> None:
    server = await new_server({"auth": {"cookie": "session"}})
    await context.add_cookies([{"name": "session", "value": make_token("42"), "url": site.origin()}])
    listener = await Listener(page).open(f"{server.url}/sse?channels=user.42", TOLD, credentials=True)
    await listener.is_subscribed()
    await server.publish("user.42", "for 42")
    await eventually(listener.data)
    stranger = await Listener(await context.new_page()).at(site.origin())
    await stranger.open(f"{server.url}/sse?channels=user.43", TOLD, credentials=True)
    await eventually(stranger.gave_up)
    assert await stranger.opened() == 0


async def test_an_allowed_origin_may_listen(new_server: NewServer, context: BrowserContext, site: Site) -> None:
    server = await new_server({**ANONYMOUS, "server": {"allowed_origins": [site.origin(OURS)]}})
    listener = await Listener(await context.new_page()).at(site.origin(OURS))
    await listener.open(f"{server.url}/sse?channels=open.news", TOLD)
    await listener.is_subscribed()
    await server.publish("open.news", "hello")
    await eventually(listener.data)
    assert await listener.data() == ["hello"]


async def test_a_foreign_origin_may_not_listen_by_eventsource_fetch_or_websocket(
    new_server: NewServer, context: BrowserContext, site: Site
) -> None:
    server = await new_server({**ANONYMOUS, "server": {"allowed_origins": [site.origin(OURS)]}})
    listener = await Listener(await context.new_page()).at(site.origin(FOREIGN))
    assert await listener.page.evaluate("location.origin") == site.origin(FOREIGN)
    url = f"{server.url}/sse?channels=open.news"
    await listener.open(url, TOLD)
    await eventually(listener.gave_up)
    assert await listener.opened() == 0
    assert await listener.page.evaluate("url => fetch(url).then(() => 'read', () => 'refused')", url) == "refused"
    assert await listener.page.evaluate(OPEN_WEBSOCKET, server.ws_url) == "refused"
    assert (await server.call("info"))["nodes"][0]["num_clients"] == 0


async def test_a_page_on_another_loopback_origin_may_listen_to_a_server_on_loopback(
    new_server: NewServer, context: BrowserContext, site: Site
) -> None:
    server = await new_server(ANONYMOUS)
    listener = await Listener(await context.new_page()).at(site.origin("localhost"))
    await listener.open(f"http://{LOCALHOST}:{server.port}/sse?channels=open.news", TOLD)
    await listener.is_subscribed()
    assert await listener.page.evaluate(OPEN_WEBSOCKET, server.ws_url) == "opened"


async def test_a_channel_of_somebody_else_is_refused_for_good(new_server: NewServer, listener: Listener) -> None:
    server = await new_server(ANONYMOUS)
    await listener.open(f"{server.url}/sse?channels=user.42", TOLD)
    await eventually(listener.gave_up)
    assert await listener.opened() == 0


OPEN_WEBSOCKET = """url => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onopen = () => { socket.close(); resolve("opened"); };
  socket.onerror = () => resolve("refused");
})"""


async def _has_heard(listener: Listener, count: int) -> bool:
    return len(await listener.data()) >= count


async def _heartbeats(server: ServerProcess, count: int) -> None:
    """Listen on a stream of our own until so many id-only events have come."""
    url = f"{server.url}/sse?channels=open.quiet"
    async with asyncio.timeout(20 * SECOND), aiohttp.ClientSession() as http, http.get(url) as response:
        while count:
            event = await response.content.readuntil(b"\n\n")
            count -= event.startswith(b"id:")


async def _offset_brought_back_to(port: int) -> int:
    """Stand in for the server that was there, and wait for who comes back with a cursor."""
    brought: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.Response:
        if not brought.done():
            brought.set_result(request.headers.get("Last-Event-ID", ""))
        return web.Response(status=204)  # EventSource stays away then

    application = web.Application()
    application.router.add_get("/sse", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOCALHOST, port).start()
        async with asyncio.timeout(20 * SECOND):
            cursor = await brought
    finally:
        await runner.cleanup()
    return int(cursor.rpartition(":")[2])
