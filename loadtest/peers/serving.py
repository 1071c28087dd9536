"""How applications for ASGI are served here: uvicorn, tuned as its documentation says."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn


def run(application: Any) -> None:
    """Until a signal; the port is the first argument."""
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        backlog=4096,
        lifespan="off",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
