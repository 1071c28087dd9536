"""The public Python library, `centrifuge-python`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import centrifuge

from tests.sdk.client import CallFailed, Client, Event, Page, Present, StateSource, TokenSource, Way

WAYS = [Way(), Way(protobuf=True)]


class PythonClient(Client):
    """Ready to use when it is made."""

    def __init__(self, url: str, token: str = "", tokens: TokenSource | None = None, *, protobuf: bool = False) -> None:
        super().__init__(url, token, tokens)
        self._protobuf = protobuf
        self._patches: dict[str, int] = {}
        self._client = centrifuge.Client(
            url,
            events=_ClientEvents(self.events),
            token=token,
            get_token=self._get_token if tokens else None,
            use_protobuf=protobuf,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
            proxy=None,
        )

    async def connect(self) -> None:
        await self._client.connect()

    async def disconnect(self) -> None:
        await self._client.disconnect()

    async def subscribe(
        self,
        channel: str,
        token: str = "",
        *,
        asks: bool = False,
        join_leave: bool = False,
        delta: bool = False,
        tags: dict[str, Any] | None = None,
        state: StateSource | None = None,
    ) -> None:
        async def get_state(_channel: str) -> centrifuge.StreamPosition:
            assert state is not None
            return centrifuge.StreamPosition(*state())

        subscription = self._client.get_subscription(channel)
        if subscription is None:
            subscription = self._client.new_subscription(
                channel,
                events=_SubscriptionEvents(self.events, channel, self._patches),
                token=token,
                get_token=self._get_token if asks else None,
                min_resubscribe_delay=0.05,
                max_resubscribe_delay=0.5,
                join_leave=join_leave,
                delta=centrifuge.DeltaType.FOSSIL if delta else None,
                tags_filter=centrifuge.FilterNode(tags) if tags else None,
                get_state=get_state if state else None,
            )
        await subscription.subscribe()

    async def unsubscribe(self, channel: str) -> None:
        await self._client.get_subscription(channel).unsubscribe()

    async def publish(self, channel: str, data: Any) -> None:
        await _call(self._client.publish(channel, self._packed(data)))

    async def history(
        self, channel: str, limit: int = 0, since: tuple[int, str] | None = None, *, reverse: bool = False
    ) -> Page:
        position = centrifuge.StreamPosition(*since) if since else None
        answer = await _call(self._client.history(channel, limit=limit, since=position, reverse=reverse))
        return Page([(item.offset, _plain(item.data)) for item in answer.publications], answer.offset, answer.epoch)

    async def presence(self, channel: str) -> dict[str, Present]:
        answer = await _call(self._client.presence(channel))
        return {client: Present(**_info(info)) for client, info in answer.clients.items()}

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        answer = await _call(self._client.presence_stats(channel))
        return answer.num_clients, answer.num_users

    async def rpc(self, method: str, data: Any) -> Any:
        return _plain((await _call(self._client.rpc(method, self._packed(data)))).data)

    async def patches(self, channel: str) -> int:
        return self._patches.get(channel, 0)

    async def close(self) -> None:
        await self._client.disconnect()
        # The library says goodbye beside its `disconnect`, and the loop is about to end.
        await asyncio.gather(*self._client._background_tasks, return_exceptions=True)

    async def _get_token(self, *_channel: str) -> str:
        return self.next_token()

    def _packed(self, data: Any) -> Any:
        """With Protobuf an app makes its own bytes."""
        return json.dumps(data).encode() if self._protobuf else data


async def _call(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except centrifuge.ReplyError as error:
        raise CallFailed(error.code, error.message) from error


def _plain(data: Any) -> Any:
    """What the other side meant; nothing for no bytes, which is how Protobuf says it."""
    if isinstance(data, bytes):
        return json.loads(data) if data else None
    return data


def _info(info: centrifuge.ClientInfo) -> dict[str, Any]:
    return {
        "client": info.client,
        "user": info.user,
        "conn_info": _plain(info.conn_info),
        "chan_info": _plain(info.chan_info),
    }


class _ClientEvents(centrifuge.ClientEventHandler):  # type: ignore[misc] # the library has no types
    """Notes what the library tells about the connection, and about what the server has subscribed it to."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    async def on_connecting(self, ctx: Any) -> None:
        self._events.append(Event(name="connecting", code=ctx.code, reason=ctx.reason))

    async def on_connected(self, ctx: Any) -> None:
        self._events.append(Event(name="connected", data=_plain(ctx.data), client=ctx.client))

    async def on_disconnected(self, ctx: Any) -> None:
        self._events.append(Event(name="disconnected", code=ctx.code, reason=ctx.reason))

    async def on_error(self, ctx: Any) -> None:
        self._events.append(_failure("", ctx))

    async def on_subscribing(self, ctx: Any) -> None:
        self._events.append(Event(name="subscribing", channel=ctx.channel))

    async def on_subscribed(self, ctx: Any) -> None:
        self._events.append(_subscribed(ctx.channel, ctx))

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._events.append(Event(name="unsubscribed", channel=ctx.channel))

    async def on_publication(self, ctx: Any) -> None:
        self._events.append(_publication(ctx.channel, ctx.pub))

    async def on_join(self, ctx: Any) -> None:
        self._events.append(Event(name="join", channel=ctx.channel, **_info(ctx.info)))

    async def on_leave(self, ctx: Any) -> None:
        self._events.append(Event(name="leave", channel=ctx.channel, **_info(ctx.info)))


class _SubscriptionEvents(centrifuge.SubscriptionEventHandler):  # type: ignore[misc] # the library has no types
    """Notes what the library tells about one channel."""

    def __init__(self, events: list[Event], channel: str, patches: dict[str, int]) -> None:
        self._events = events
        self._channel = channel
        self._patches = patches

    async def on_subscribing(self, ctx: Any) -> None:
        self._events.append(Event(name="subscribing", channel=self._channel, code=ctx.code, reason=ctx.reason))

    async def on_subscribed(self, ctx: Any) -> None:
        self._events.append(_subscribed(self._channel, ctx))

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._events.append(Event(name="unsubscribed", channel=self._channel, code=ctx.code, reason=ctx.reason))

    async def on_publication(self, ctx: Any) -> None:
        self._patches[self._channel] = self._patches.get(self._channel, 0) + bool(ctx.pub.delta)
        self._events.append(_publication(self._channel, ctx.pub))

    async def on_join(self, ctx: Any) -> None:
        self._events.append(Event(name="join", channel=self._channel, **_info(ctx.info)))

    async def on_leave(self, ctx: Any) -> None:
        self._events.append(Event(name="leave", channel=self._channel, **_info(ctx.info)))

    async def on_error(self, ctx: Any) -> None:
        self._events.append(_failure(self._channel, ctx))


def _subscribed(channel: str, ctx: Any) -> Event:
    return Event(
        name="subscribed",
        channel=channel,
        data=_plain(ctx.data),
        was_recovering=ctx.was_recovering,
        recovered=ctx.recovered,
    )


def _publication(channel: str, publication: Any) -> Event:
    return Event(
        name="publication",
        channel=channel,
        data=_plain(publication.data),
        offset=publication.offset,
        tags=dict(publication.tags or {}),
        **(_info(publication.info) if publication.info else {}),
    )


def _failure(channel: str, ctx: Any) -> Event:
    """A reply's own code says more than the library's for "connecting failed"."""
    code = ctx.error.code if isinstance(ctx.error, centrifuge.ReplyError) else ctx.code
    return Event(name="error", channel=channel, code=code, reason=str(ctx.error))
