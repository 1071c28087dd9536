"""Letting go of a store: its sockets too, whether or not it closes them itself."""

from __future__ import annotations

from notifier.state.store import Store


async def let_go(store: Store) -> None:
    await store.stop()
    client = getattr(store, "_redis", None)
    if client is not None:
        await client.connection_pool.disconnect()
