"""Alerts, dashboard and the page of metrics against a real scrape, by Prometheus's own tools."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.deploy.conftest import DEPLOY, ROOT, find, run
from tests.servers import ServerProcess
from tests.services.certificates import Authority
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.process import Process
from tests.services.redis import Redis
from tests.services.server import Server

DASHBOARD = json.loads((DEPLOY / "grafana" / "notifier.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]

# Prometheus's own, which no server exports.
OF_PROMETHEUS = {"up", "ALERTS"}
NAME = re.compile(r"\b(?:notifier|process|python)_\w+|\bup\b")


class Prometheus(Server):
    """Scrapes one node over TLS with the configuration in deploy/, only more often."""

    programs = ("prometheus", "promtool")
    package = "prometheus"

    def __init__(self, target: str, authority: Path) -> None:
        super().__init__()
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        [notifier] = [each for each in config["scrape_configs"] if each["job_name"] == "notifier"]
        notifier["static_configs"] = [{"targets": [target]}]
        notifier |= {"scheme": "https", "tls_config": {"ca_file": str(authority), "server_name": "localhost"}}
        config["scrape_configs"] = [notifier]
        config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (self.folder / "alerts.yml").write_text((DEPLOY / "prometheus" / "alerts.yml").read_text())

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def _spawn(self) -> Process:
        argv = [
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={LOCALHOST}:{self.port}",
        ]
        return Process(argv, dict(os.environ), self.folder, self.log)

    def _greets(self, connection: socket.socket) -> bool:
        connection.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(64)


class TlsServer(ServerProcess):
    """With the operators' listener on `admin_port`; both speak TLS."""

    def __init__(self, folder: Path, redis: Redis) -> None:
        self.authority = Authority(folder)
        self.authority.issue(folder / "chain.pem", folder / "key.pem")
        self.admin_port = free_port()
        files = {"tls_certificate": str(folder / "chain.pem"), "tls_key": str(folder / "key.pem")}
        super().__init__(folder, {"server": files, "admin": {"port": self.admin_port}, "redis": {"url": redis.url}})
        self.trust = ssl.create_default_context(cafile=self.authority.file)

    @property
    def url(self) -> str:
        return f"https://{LOCALHOST}:{self.admin_port}"

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        async with http.get(f"{self.url}/readyz", ssl=self.trust) as response:
            return response.status == 200

    async def scrape(self) -> str:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics", ssl=self.trust) as response:
            return await response.text()


@pytest.fixture
async def server(tmp_path: Path, redis_server: Redis) -> AsyncIterator[TlsServer]:
    made = TlsServer(tmp_path, redis_server)
    try:
        yield await made.start()
    finally:
        made.kill()


@pytest.fixture
def prometheus(server: TlsServer) -> Iterator[Prometheus]:
    find("prometheus")
    with Prometheus(f"localhost:{server.admin_port}", server.authority.file) as made:
        yield made


def names_in(expression: str) -> set[str]:
    """The metrics of a query, as they are scraped."""
    return set(NAME.findall(re.sub(r'"[^"]*"|\b(by|without)\s*\([^)]*\)', "", expression)))


# --- what needs no server ---------------------------------------------------------------------------------------------


def test_the_rules_are_correct_and_fire_when_they_should() -> None:
    folder = DEPLOY / "prometheus"
    assert f"{len(RULES)} rules found" in run("promtool", "check", "rules", "alerts.yml", cwd=folder)
    assert "SUCCESS" in run("promtool", "test", "rules", "alerts.test.yml", cwd=folder)
    assert "SUCCESS" in run("promtool", "check", "config", "prometheus.yml", cwd=folder)


def test_each_alert_has_a_test_in_which_it_fires() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts.test.yml").read_text())["tests"]
    samples = [sample for test in tests for expr in test.get("promql_expr_test", []) for sample in expr["exp_samples"]]
    fired = {name for sample in samples for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    fired |= {each["alertname"] for test in tests for each in test.get("alert_rule_test", []) if each["exp_alerts"]}
    assert fired == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        (x, y)
        for box in (panel["gridPos"] for panel in panels)
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(set(squares)) == len(squares), "panels lie on each other"
    assert max(x for x, _ in squares) < 24
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels if panel["type"] != "row")


def test_every_metric_of_the_server_is_on_the_dashboard_or_in_an_alert() -> None:
    """What nobody looks at need not be measured."""
    used = set().union(*(names_in(query) for query in [*QUERIES, *(rule["expr"] for rule in RULES)]))
    documented = re.findall(r"^\| `(notifier_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    seldom = {"notifier_log_end", "notifier_log_known_from"}
    assert {name for name in documented if not any(each.startswith(name) for each in used)} == seldom


# --- against a real scrape --------------------------------------------------------------------------------------------


async def test_a_real_scrape_has_all_that_alerts_and_dashboard_ask_for(server: TlsServer) -> None:
    text = await server.scrape()
    assert run("promtool", "check", "metrics", stdin=text.encode()) == ""
    scraped = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        scraped |= {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"} if kind == "histogram" else {name}
    asked = set().union(*(names_in(query) for query in [*QUERIES, *(rule["expr"] for rule in RULES)]))
    assert asked - OF_PROMETHEUS - scraped == set()


async def test_prometheus_scrapes_a_node_and_answers_the_dashboard(server: TlsServer, prometheus: Prometheus) -> None:
    async with aiohttp.ClientSession(prometheus.url) as http:

        async def ask(path: str, **params: str) -> Any:
            async with http.get(path, params=params) as response:
                answer = await response.json()
                assert answer["status"] == "success", (params, answer)
                return answer["data"]

        async def scraped() -> bool:
            found = (await ask("/api/v1/query", query='up{job="notifier"}'))["result"]
            return [each["value"][1] for each in found] == ["1"]

        await eventually(scraped, 20 * SECOND)
        for query in QUERIES:
            filled = query.replace("$__rate_interval", "1m").replace("$job", "notifier").replace("$instance", ".*")
            await ask("/api/v1/query", query=filled)
        [total] = (await ask("/api/v1/query", query='sum(notifier_log_ready{job=~"notifier"})'))["result"]
        assert total["value"][1] == "1"

        async def evaluated() -> bool:
            [group] = (await ask("/api/v1/rules"))["groups"]
            assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in RULES]
            return all(rule["health"] == "ok" for rule in group["rules"])

        await eventually(evaluated, 20 * SECOND)
        with contextlib.suppress(aiohttp.ClientError):
            server.kill()

        async def missed() -> bool:
            alerts = (await ask("/api/v1/alerts"))["alerts"]
            return [alert["labels"]["alertname"] for alert in alerts] == ["NotifierDown"]

        await eventually(missed, 20 * SECOND)
