"""The public Python library, `centrifuge-python`."""

from __future__ import annotations

from typing import Any

import centrifuge

from tests.sdk.client import CallFailed, Client, Event, Page, TokenSource


class PythonClient(Client):
    """Ready to use when it is made."""

    def __init__(self, url: str, token: str = "", tokens: TokenSource | None = None) -> None:
        super().__init__(url, token, tokens)
        self._client = centrifuge.Client(
            url,
            events=_ClientEvents(self.events),
            token=token,
            get_token=self._get_token if tokens else None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
            proxy=None,
        )

    async def connect(self) -> None:
        await self._client.connect()

    async def disconnect(self) -> None:
        await self._client.disconnect()

    async def subscribe(self, channel: str, token: str = "", *, asks: bool = False) -> None:
        subscription = self._client.get_subscription(channel)
        if subscription is None:
            subscription = self._client.new_subscription(
                channel,
                events=_SubscriptionEvents(self.events, channel),
                token=token,
                get_token=self._get_token if asks else None,
                min_resubscribe_delay=0.05,
                max_resubscribe_delay=0.5,
            )
        await subscription.subscribe()

    async def unsubscribe(self, channel: str) -> None:
        await self._client.get_subscription(channel).unsubscribe()

    async def publish(self, channel: str, data: Any) -> None:
        try:
            await self._client.publish(channel, data)
        except centrifuge.ReplyError as error:
            raise CallFailed(error.code, error.message) from error

    async def history(
        self, channel: str, limit: int = 0, since: tuple[int, str] | None = None, *, reverse: bool = False
    ) -> Page:
        position = centrifuge.StreamPosition(*since) if since else None
        try:
            answer = await self._client.history(channel, limit=limit, since=position, reverse=reverse)
        except centrifuge.ReplyError as error:
            raise CallFailed(error.code, error.message) from error
        return Page([(item.offset, item.data) for item in answer.publications], answer.offset, answer.epoch)

    async def close(self) -> None:
        await self._client.disconnect()

    async def _get_token(self, *_channel: str) -> str:
        return self.next_token()


class _ClientEvents(centrifuge.ClientEventHandler):  # type: ignore[misc] # the library has no types
    """Notes what the library tells about the connection."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    async def on_connecting(self, ctx: Any) -> None:
        self._events.append(Event(name="connecting", code=ctx.code, reason=ctx.reason))

    async def on_connected(self, ctx: Any) -> None:
        self._events.append(Event(name="connected", data=ctx.data))

    async def on_disconnected(self, ctx: Any) -> None:
        self._events.append(Event(name="disconnected", code=ctx.code, reason=ctx.reason))

    async def on_error(self, ctx: Any) -> None:
        self._events.append(_failure("", ctx))


class _SubscriptionEvents(centrifuge.SubscriptionEventHandler):  # type: ignore[misc] # the library has no types
    """Notes what the library tells about one channel."""

    def __init__(self, events: list[Event], channel: str) -> None:
        self._events = events
        self._channel = channel

    async def on_subscribing(self, ctx: Any) -> None:
        self._events.append(Event(name="subscribing", channel=self._channel, code=ctx.code, reason=ctx.reason))

    async def on_subscribed(self, ctx: Any) -> None:
        self._events.append(
            Event(
                name="subscribed",
                channel=self._channel,
                was_recovering=ctx.was_recovering,
                recovered=ctx.recovered,
            )
        )

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._events.append(Event(name="unsubscribed", channel=self._channel, code=ctx.code, reason=ctx.reason))

    async def on_publication(self, ctx: Any) -> None:
        publication = ctx.pub
        self._events.append(
            Event(
                name="publication",
                channel=self._channel,
                data=publication.data,
                offset=publication.offset,
                user=publication.info.user if publication.info else None,
                tags=dict(publication.tags or {}),
            )
        )

    async def on_error(self, ctx: Any) -> None:
        self._events.append(_failure(self._channel, ctx))


def _failure(channel: str, ctx: Any) -> Event:
    """A reply's own code says more than the library's for "connecting failed"."""
    code = ctx.error.code if isinstance(ctx.error, centrifuge.ReplyError) else ctx.code
    return Event(name="error", channel=channel, code=code, reason=str(ctx.error))
