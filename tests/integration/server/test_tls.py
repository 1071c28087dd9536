"""TLS without a proxy, certificates that change while the server runs, and the operators' own listener."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect

from notifier.certificate import Certificate
from notifier.config import Admin
from notifier.config import Server as ServerSection
from notifier.errors import ConfigError
from notifier.telemetry.metrics import Metrics
from tests.integration.server.conftest import API_KEY, Client, StartServer
from tests.services.certificates import Authority
from tests.services.deadline import SECOND, eventually
from tests.services.ports import free_port


class Files:
    """A certificate and its key, and whoever trusts it."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.issue("first")

    def issue(self, name: str, days: int = 30) -> None:
        self.authority.issue(self.chain, self.key, name=name, days=days)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority.file)

    @property
    def section(self) -> ServerSection:
        return ServerSection(port=0, tls_certificate=str(self.chain), tls_key=str(self.key))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def shown_name(address: str, trust: ssl.SSLContext) -> str:
    """Whose certificate a new connection is shown."""
    host, port = address.removeprefix("https://").rstrip("/").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=trust)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return str(certificate["subject"][0][0][1])


async def test_clients_and_backends_over_tls(start_server: StartServer, files: Files) -> None:
    server = await start_server(server=files.section)
    assert server.url.startswith("https://")
    url = server.url.replace("https", "wss") + "/connection/websocket"
    async with (
        connect(url, ssl=files.trust) as socket,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=files.trust)) as http,
    ):
        client = Client(socket)
        await client.send({"id": 1, "connect": {}})
        assert "connect" in await client.receive()
        await client.subscribe("news.1")
        large = "x" * 50_000
        headers = {"X-API-Key": API_KEY}
        async with http.post(
            f"{server.url}/api/publish", json={"channel": "news.1", "data": large}, headers=headers
        ) as response:
            assert response.status == 200
        assert (await client.receive())["push"]["pub"]["data"] == large


async def test_a_new_certificate_is_shown_without_a_restart(start_server: StartServer, files: Files) -> None:
    server = await start_server(server=files.section)
    assert await shown_name(server.url, files.trust) == "first"
    url = server.url.replace("https", "wss") + "/connection/websocket"
    async with connect(url, ssl=files.trust) as socket:
        files.issue("second")
        await eventually(_shows(server.url, files.trust, "second"))
        client = Client(socket)
        await client.send({"id": 1, "connect": {}})  # a connection of before goes on
        assert "connect" in await client.receive()


def _shows(address: str, trust: ssl.SSLContext, name: str) -> Callable[[], object]:
    async def look() -> bool:
        return await shown_name(address, trust) == name

    return look


async def test_old_tls_is_refused(start_server: StartServer, files: Files) -> None:
    server = await start_server(server=files.section)
    old = files.trust
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):  # the alert may be overtaken by the end of the connection
        await shown_name(server.url, old)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_handshake_that_does_not_come_to_an_end_is_not_waited_for(
    start_server: StartServer, files: Files, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr("notifier.transports.listener.HANDSHAKE_S", 0.5)
    server = await start_server(server=files.section)
    host, port = server.url.removeprefix("https://").rstrip("/").split(":")
    peers = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
    for _, writer in peers:
        writer.write(first)
    assert await shown_name(server.url, files.trust) == "first", "others are not held up"
    async with asyncio.timeout(10 * SECOND):
        for reader, writer in peers:
            with contextlib.suppress(ConnectionError):
                await reader.read()  # up to the end, which comes; an alert may be before it
            writer.close()


def test_a_broken_certificate_changes_nothing(files: Files) -> None:
    certificate = Certificate(str(files.chain), str(files.key))
    before = certificate.expires_at
    files.chain.write_text("nonsense")
    assert not certificate.renew()
    assert certificate.expires_at == before
    files.key.unlink()
    assert not certificate.renew()
    files.issue("third", days=90)
    assert certificate.renew()
    assert certificate.expires_at > before
    assert not certificate.renew()


async def test_until_when_it_is_good_is_a_metric(start_server: StartServer, files: Files) -> None:
    """F-N11."""
    server = await start_server(server=files.section)
    before = server.node.stats.certificate_expires_at
    assert before == server.server.doors.certificate.expires_at
    files.issue("next", days=90)
    await eventually(lambda: (server.node.stats.certificate_expires_at or 0) > (before or 0))
    text = Metrics(server.node).text().decode()
    [line] = [line for line in text.splitlines() if line.startswith("notifier_certificate_expiry_timestamp_seconds")]
    assert float(line.split()[1]) == server.node.stats.certificate_expires_at


def test_a_mounted_secret_is_renewed_by_its_link(tmp_path: Path) -> None:
    old, new, link = tmp_path / "1", tmp_path / "2", tmp_path / "current"
    for folder in (old, new):
        folder.mkdir()
        Files(folder)
        shutil.copystat(old / "chain.pem", folder / "chain.pem")
        shutil.copystat(old / "key.pem", folder / "key.pem")
    link.symlink_to(old)
    certificate = Certificate(str(link / "chain.pem"), str(link / "key.pem"))
    (tmp_path / "next").symlink_to(new)
    (tmp_path / "next").replace(link)
    assert certificate.renew()


@pytest.mark.parametrize(("spoil", "words"), [("chain", "do not fit"), ("key", "do not fit"), ("missing", "key.pem")])
def test_a_certificate_that_cannot_be_used_stops_the_start(files: Files, spoil: str, words: str) -> None:
    match spoil:
        case "chain":
            files.chain.write_text("nonsense")
        case "key":
            files.authority.issue(files.chain.with_name("other.pem"), files.key)
        case _:
            files.key.unlink()
    with pytest.raises(ConfigError, match=words) as caught:
        Certificate(str(files.chain), str(files.key))
    assert "server.tls_certificate" in str(caught.value)


async def test_operators_and_backends_have_a_listener_of_their_own(start_server: StartServer) -> None:
    server = await start_server(admin=Admin(port=free_port()))
    admin = server.server.doors.admin_address.rstrip("/")
    assert admin != server.url
    headers = {"X-API-Key": API_KEY}
    for path, method in (("/api/info", "POST"), ("/metrics", "GET"), ("/", "GET"), ("/api/openapi.json", "GET")):
        async with server.http.request(method, server.url + path, headers=headers) as response:
            assert response.status == 404, path
        async with server.http.request(method, admin + path, headers=headers) as response:
            assert response.status == 200, path
    for address in (server.url, admin):
        async with server.http.get(address + "/livez") as response:
            assert response.status == 200
    async with connect(admin.replace("http", "ws") + "/connection/websocket") as socket:
        client = Client(socket)  # the console's own connection
        await client.send({"id": 1, "connect": {}})
        assert "connect" in await client.receive()


async def test_an_address_of_operators_that_is_taken_is_said(start_server: StartServer) -> None:
    first = await start_server(admin=Admin(port=free_port()))
    taken = int(first.server.doors.admin_address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=r"admin\.port"):
        await start_server(admin=Admin(port=taken))
