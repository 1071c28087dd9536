"""nchan: publish and subscribe inside nginx, in C. From the Debian packages nginx-light and libnginx-mod-nchan."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from loadtest.feeds import Feed, HttpFeed
from loadtest.peers.compiling import compile_c
from loadtest.peers.peer import Missing, Peer
from loadtest.peers.versions import of_package, said
from loadtest.wire import EventsWire, PlainWire, Step, Wire, upgrade

MODULES = [Path("/usr/lib/nginx/modules/ngx_nchan_module.so"), Path("/usr/lib64/nginx/modules/ngx_nchan_module.so")]

CONFIG = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr warn;
load_module {module};
events {{ worker_connections {files}; use epoll; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    nchan_shared_memory_size 512M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /subscribe {{
            nchan_subscriber websocket;
            nchan_channel_id $arg_id;
            nchan_channel_id_split_delimiter ",";
            nchan_subscriber_first_message newest;
            nchan_websocket_ping_interval 0;
        }}
        location = /events {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_id;
            nchan_channel_id_split_delimiter ",";
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 0;
        }}
        location = /publish {{
            nchan_publisher http;
            nchan_channel_id $arg_id;
            nchan_message_buffer_length 10;
            nchan_message_timeout 1m;
        }}
    }}
}}
"""


class NchanWire(PlainWire):
    """The channels stand in the URL, so who is connected is subscribed."""

    def steps(self, index: int, *channels: str) -> list[Step]:  # noqa: ARG002 - all connections are alike
        return [upgrade(f"/subscribe?id={','.join(channels)}")]


class NchanEventsWire(EventsWire):
    """The same over server-sent events."""

    def path(self, channels: Sequence[str]) -> str:
        return f"/events?id={','.join(channels)}"


class Nchan(Peer):
    """Its own nginx with one worker, messages in memory, as many kept as our server keeps."""

    key = "nchan"
    label = "nchan (nginx)"
    wire: Wire = NchanWire()
    settings = "1 worker, messages in memory, 10 kept for 1 min, no access log, no pings"

    def install(self) -> dict[str, str]:
        nginx = self._nginx()
        module = next((path for path in MODULES if path.exists()), None)
        if nginx is None or module is None:
            raise Missing("nginx with nchan is not installed (apt-get install nginx-light libnginx-mod-nchan)")
        found = re.search(r"nginx/(\S+)", said([nginx, "-v"]))
        return {"nginx": found[1] if found else "unknown", "nchan": of_package("libnginx-mod-nchan")}

    def command(self, folder: Path) -> Sequence[str]:
        module = next(path for path in MODULES if path.exists())
        text = CONFIG.format(
            user="user root;" if os.geteuid() == 0 else "",
            files=os.sysconf("SC_OPEN_MAX"),
            folder=folder,
            module=module,
            port=self.port,
        )
        (folder / "nginx.conf").write_text(text)
        return [self._nginx() or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]

    def feed(self) -> Feed:
        return HttpFeed(self.port, "/publish?id=%s")

    @staticmethod
    def _nginx() -> str | None:
        return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class NchanEvents(Nchan):
    """Subscribers are event sources."""

    key = "nchan-sse"
    label = "nchan, SSE"
    wire = NchanEventsWire()


class NchanNoDelay(Nchan):
    """The same with the socket option that all other servers here set: nchan leaves Nagle's algorithm on, so the kernel
    holds small frames back while earlier ones are unacknowledged, and sends several in one segment."""

    key = "nchan-nodelay"
    label = "nchan, TCP_NODELAY"

    def install(self) -> dict[str, str]:
        versions = super().install()
        compile_c("nodelay.c", self._library, "-shared", "-fPIC", "-ldl")
        return versions

    def command(self, folder: Path) -> Sequence[str]:
        return ["env", f"LD_PRELOAD={self._library}", *super().command(folder)]

    @property
    def _library(self) -> Path:
        return self.cache / "nodelay.so"
