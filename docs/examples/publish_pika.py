"""Publish a notification with pika: python publish_pika.py CHANNEL JSON"""

import json
import os
import sys
import time
import uuid

import pika
from pika.exceptions import AMQPConnectionError, NackError

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/")


class Publisher:
    """Keeps a connection open. For one thread: give each its own."""

    def __init__(self):
        self._channel = None

    def publish(self, channel, data):
        """Returns when the broker has it. Raises UnroutableError when no stream is bound to the exchange, and
        AMQPConnectionError when the broker stays away."""
        properties = pika.BasicProperties(
            message_id=str(uuid.uuid4()),  # the same at every try, so that no client gets it twice
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
        )
        for pause_s in (0.5, 1, 2, 4, 8, None):
            try:
                self._open().basic_publish(
                    "notifications", channel, json.dumps(data).encode(), properties, mandatory=True
                )
            except (AMQPConnectionError, NackError):  # perhaps it has it all the same: try again
                self._channel = None
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            else:
                return

    def _open(self):
        if self._channel is None or not self._channel.is_open:
            parameters = pika.URLParameters(URL)
            parameters.heartbeat = parameters.blocked_connection_timeout = 10  # seconds that a broker may be silent
            self._channel = pika.BlockingConnection(parameters).channel()
            self._channel.confirm_delivery()
        return self._channel


if __name__ == "__main__":
    Publisher().publish(sys.argv[1], json.loads(sys.argv[2]))
    print("confirmed")
