"""What the machine allows: open files, the queue of new connections, cores; and whether its clock can be trusted."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

from aiohttp import http_parser

from notifier.config import Config
from notifier.operator.doctor.finding import Finding, ok, warn

TOPIC = "machine"
ENOUGH_FILES = 20_000
BACKLOG = 4096
TIMEX_BYTES = 512  # of adjtimex(2)'s argument, and some more; all zero: only ask
TIME_ERROR = 5


async def look(config: Config) -> list[Finding]:
    return [_files(), _backlog(), *_cores(config), clock(_kernel_s_word()), parser()]


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < ENOUGH_FILES:
        text = f"a process may have {soft} files open (hard limit {hard}): each connection is one"
        return warn(TOPIC, text, "LimitNOFILE= in the systemd unit, or ulimit -n, for the connections you expect")
    return ok(TOPIC, f"open files: {soft}")


def _backlog() -> Finding:
    path = Path("/proc/sys/net/core/somaxconn")
    try:
        limit = int(path.read_text())
    except (OSError, ValueError):
        return ok(TOPIC, "the queue of new connections cannot be looked at here")
    if limit < BACKLOG:
        text = f"the kernel queues {limit} new connections: more at once, as after an outage, wait and come again"
        return warn(TOPIC, text, f"sysctl net.core.somaxconn={BACKLOG}")
    return ok(TOPIC, f"queue of new connections: {limit}")


def _cores(config: Config) -> list[Finding]:
    cores = len(os.sched_getaffinity(0))
    if config.server.workers > cores:
        text = f"{config.server.workers} workers share {cores} cores"
        return [warn(TOPIC, text, 'server.workers = "auto"')]
    return [ok(TOPIC, f"workers: {config.server.workers}, cores: {cores}")]


def clock(word: int) -> Finding:
    """What the kernel says of its clock (adjtimex(2)); below 0: nothing."""
    if word < 0:
        return ok(TOPIC, "whether the clock is right cannot be seen here")
    if word == TIME_ERROR:
        text = "nothing keeps the clock right: tokens begin and end at other times than their issuer meant"
        return warn(TOPIC, text, "systemctl enable --now systemd-timesyncd, or chrony; on the host, of a container")
    return ok(TOPIC, "the clock is kept right")


def _kernel_s_word() -> int:
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
    except (OSError, AttributeError):
        return -1


def parser() -> Finding:
    """Which of aiohttp's two reads requests. The one in Python takes what is no HTTP/1.1, such as `HTTP/9.9`."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        text = "requests are read by aiohttp's parser in Python, which is slower and less strict"
        return warn(TOPIC, text, "unset AIOHTTP_NO_EXTENSIONS; install aiohttp from a wheel, or with a compiler")
    return ok(TOPIC, "requests are read by aiohttp's parser in C")
