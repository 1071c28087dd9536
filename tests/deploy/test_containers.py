"""The image and the compose file: there is no engine here, so what they say is checked against what there is."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from notifier.config import Duration, load
from notifier.workers.parent import AFTER_GRACE_S
from tests.conftest import need
from tests.deploy.conftest import DEPLOY, ROOT, run
from tests.servers import ServerProcess
from tests.services.deadline import SECOND, wait_until
from tests.services.plugins import LISTENERS
from tests.services.ports import LOCALHOST, free_port
from tests.services.process import Process
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis

COMPOSE = DEPLOY / "compose"
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(?::\?([^}]*))?\}")


def services() -> dict[str, Any]:
    """The services of the compose file, with the variables of .env.example filled in."""
    values = dict(line.split("=", 1) for line in (COMPOSE / ".env.example").read_text().splitlines() if line[0] != "#")
    text = VARIABLE.sub(lambda found: values[found[1]], (COMPOSE / "compose.yml").read_text())
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


NODES = ["node1", "node2"]


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_s_linter_finds_nothing() -> None:
    assert run("hadolint", DEPLOY / "docker" / "Dockerfile") == ""


def test_what_the_image_is_made_of_is_there_and_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert len(sources) >= 5
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in allowed, source


def test_the_image_runs_as_nobody_and_pins_what_it_installs() -> None:
    [user] = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that runAsNonRoot can be checked"
    installs = re.findall(r"pip .*?install(?:.*\\\n)*.*", DOCKERFILE)
    assert installs
    assert all("--constraint deploy/constraints.txt" in each for each in installs)
    assert DOCKERFILE.count("STOPSIGNAL SIGTERM") == DOCKERFILE.count("HEALTHCHECK ") == 1


async def test_the_health_check_says_whether_the_server_lives(tmp_path: Path) -> None:
    server = await ServerProcess(tmp_path).start()
    script = DEPLOY / "docker" / "healthcheck.py"
    environ = {"HEALTH_URL": f"{server.url}/livez"}
    assert run(sys.executable, script, env=environ) == ""
    server.kill()
    with pytest.raises(pytest.fail.Exception, match="ended with 1"):
        run(sys.executable, script, env=environ)


# --- the compose file -------------------------------------------------------------------------------------------------


def test_the_compose_file_is_one() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE / "compose.yml")


def test_no_secret_has_a_default() -> None:
    used = dict(VARIABLE.findall((COMPOSE / "compose.yml").read_text()))
    assert all(used.values()), "each must say what is missing"
    example = (COMPOSE / ".env.example").read_text()
    assert set(used) == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert all(value.startswith("change-me") for value in re.findall(r"^\w+=(.*)$", example, re.MULTILINE))


def test_what_is_mounted_is_there() -> None:
    volumes = yaml.safe_load((COMPOSE / "compose.yml").read_text())["volumes"]
    mounted = [volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    for source in mounted:
        assert source in volumes or (COMPOSE / source).is_file(), source


def test_the_broker_has_the_plugins_that_nodes_and_prometheus_use() -> None:
    plugins = set(re.findall(r"\w+", (COMPOSE / "enabled_plugins").read_text()))
    assert "./enabled_plugins:/etc/rabbitmq/enabled_plugins:ro" in services()["rabbitmq"]["volumes"]
    assert load(COMPOSE / "config.toml", services()["node1"]["environment"]).rabbitmq.reader == "auto"
    assert plugins >= {"rabbitmq_stream", "rabbitmq_prometheus"}
    assert plugins <= LISTENERS.keys()


@pytest.mark.parametrize("name", NODES)
def test_the_nodes_configuration_is_valid_and_fits_to_the_rest(name: str) -> None:
    node, proxy = services()[name], services()["proxy"]
    config = load(COMPOSE / "config.toml", node["environment"])
    assert config.server.name == name
    assert config.log.kind == "rabbitmq"
    assert config.redis.url
    assert config.server.trusted_proxies == [f"{proxy['networks']['front']['ipv4_address']}/32"]
    assert config.server.shutdown_grace + AFTER_GRACE_S <= Duration.parse(node["stop_grace_period"])
    assert config.server.shutdown_delay >= 2, "the proxy asks once in 500 ms, and may have to wait for the answer"
    assert f"{name}:{config.server.port}" in proxy["environment"]["NOTIFIER_NODES"].split()
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert f"{name}:{config.admin.port}" in scraped["static_configs"][0]["targets"]


def test_only_the_proxy_listens_beyond_this_machine() -> None:
    published = {name: service.get("ports", []) for name, service in services().items()}
    assert {name for name, ports in published.items() if any(not port.startswith("127.0.0.1:") for port in ports)} == {
        "proxy"
    }


def test_the_example_can_be_checked_as_it_is() -> None:
    environ = {**os.environ, **services()["node1"]["environment"]}
    said = run(sys.executable, "-m", "notifier", "check", "--config", COMPOSE / "config.toml", env=environ)
    assert "log rabbitmq" in said
    assert tomllib.loads((COMPOSE / "config.toml").read_text())["server"]


def test_the_doctor_finds_nothing_wrong_in_the_example_and_the_log_is_read_over_the_stream_protocol(
    tmp_path: Path,
) -> None:
    """With a broker that has these plugins, and with Redis as it is started there."""
    need(RabbitMQ)
    need(Redis)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("NOTIFIER_")}
    environ |= services()["node1"]["environment"]
    plugins = re.findall(r"\w+", (COMPOSE / "enabled_plugins").read_text())
    with RabbitMQ(plugins=plugins) as broker, Redis(appendonly=True) as redis:
        environ |= {
            "NOTIFIER_RABBITMQ__URL": broker.url,
            "NOTIFIER_RABBITMQ__STREAM_URL": f"rabbitmq-stream://{LOCALHOST}:{broker.port_of('rabbitmq_stream')}",
            "NOTIFIER_REDIS__URL": redis.url,
            "NOTIFIER_AUTH__HMAC_KEYS": "k" * 64,
            "NOTIFIER_SERVER__PORT": str(free_port()),
            "NOTIFIER_ADMIN__PORT": str(free_port()),
        }
        notifier = [sys.executable, "-m", "notifier"]
        said = run(*notifier, "doctor", "-c", COMPOSE / "config.toml", cwd=ROOT, env=environ)
        assert not re.search(r"^fail|^warn +(configuration|rabbitmq|redis)", said, re.MULTILINE), said
        assert "RabbitMQ 3." in said
        argv = [*notifier, "serve", "-c", str(COMPOSE / "config.toml")]
        node = Process(argv, environ, ROOT, tmp_path / "log")
        try:
            wait_until(lambda: '"protocol": "stream"' in (tmp_path / "log").read_text(), 30 * SECOND)
        finally:
            node.kill()
