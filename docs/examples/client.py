"""Follow a channel with centrifuge-python: python client.py CHANNEL"""

import asyncio
import json
import os
import sys
import urllib.request

from centrifuge import Client, SubscriptionEventHandler

URL = os.environ.get("NOTIFIER_WS_URL", "ws://127.0.0.1:8000/connection/websocket")
TOKEN_URL = os.environ.get("TOKEN_URL", "http://127.0.0.1:5000/token")


async def get_token():
    """Asked for when the client connects, and before the token expires. Raise UnauthorizedError to stop for good; any
    other error is tried again."""

    def fetch():
        with urllib.request.urlopen(TOKEN_URL, timeout=10) as answer:  # noqa: S310 - an address of your own
            return answer.read().decode()

    return await asyncio.to_thread(fetch)


class Follower(SubscriptionEventHandler):
    def __init__(self):
        self.ended = asyncio.Event()

    async def on_subscribed(self, ctx):
        if not ctx.recovered:  # the first time, or away for longer than the history
            print("something may be missing: fetch the state from where it is kept", file=sys.stderr, flush=True)

    async def on_publication(self, ctx):
        print(json.dumps(ctx.pub.data), flush=True)

    async def on_unsubscribed(self, ctx):
        """For good: refused. Losing the connection is no such case, the client comes back by itself."""
        print(f"unsubscribed: {ctx.code} {ctx.reason}", file=sys.stderr, flush=True)
        self.ended.set()


async def main(channel):
    follower = Follower()
    client = Client(URL, get_token=get_token)
    await client.connect()
    await client.new_subscription(channel, events=follower).subscribe()
    await follower.ended.wait()
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
