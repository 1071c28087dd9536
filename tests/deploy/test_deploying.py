"""docs/deploying.md against what it speaks of: files, keys, metrics, values, times; and its commands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from notifier.config import Duration, load, reference
from notifier.config import Server as ServerSection
from notifier.workers.parent import AFTER_GRACE_S
from tests.deploy.conftest import DEPLOY, ROOT, run
from tests.deploy.test_containers import COMPOSE, services
from tests.deploy.test_systemd import Settings
from tests.servers import ServerProcess

TEXT = (ROOT / "docs" / "deploying.md").read_text()
QUOTED = re.findall(r"`([^`]+)`", TEXT)
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "notifier" / "values.yaml").read_text())


def command(start: str) -> str:
    [found] = [line for line in COMMANDS if line.startswith(start)]
    return found


def test_the_files_that_it_names_are_there() -> None:
    named = {word.rstrip("/") for word in re.findall(r"(?:deploy|tests)/[\w./-]+", TEXT)}
    assert len(named) >= 8
    assert [word for word in named if not (ROOT / word.rstrip(".")).exists()] == []


def test_the_keys_and_metrics_that_it_names_are_there() -> None:
    sections = re.findall(r"^\[(\w+)\]$(.*?)(?=^\[|\Z)", reference(), re.MULTILINE | re.DOTALL)
    keys = {f"{name}.{key}" for name, text in sections for key in re.findall(r"^(\w+) = ", text, re.MULTILINE)}
    named = {word for word in QUOTED if word.partition(".")[0] in {name for name, _ in sections} and "." in word}
    assert len(named) >= 8
    assert named <= keys
    variables = set(re.findall(r"NOTIFIER_[A-Z]+__[A-Z_]+", TEXT)) - {"NOTIFIER_SECTION__KEY"}
    assert {name.removeprefix("NOTIFIER_").lower().replace("__", ".") for name in variables} <= keys
    metrics = re.findall(r"`(notifier_\w+)`", TEXT)
    assert metrics
    assert all(f"| `{name}` |" in (ROOT / "docs" / "metrics.md").read_text() for name in metrics)


def test_the_chart_has_the_values_that_it_names() -> None:
    rows = re.findall(r"^\| (`[a-z].*?) \|", TEXT.partition("## Kubernetes")[2].partition("##")[0], re.MULTILINE)
    named = [word for row in rows for word in re.findall(r"`([\w.]+)`", row)]
    assert len(named) >= 8
    for path in named:
        found = VALUES
        for word in path.split("."):
            assert word in found, path
            found = found[word]


@pytest.mark.parametrize(
    ("row", "of"),
    [
        ("the proxy sees", lambda server: server.shutdown_delay),
        ("all of leaving", lambda server: server.shutdown_grace),
    ],
)
def test_the_times_in_its_table_are_those_that_are_set(row: str, of: Any) -> None:
    systemd, compose, chart = cells(row)
    assert compose == of(load(COMPOSE / "config.toml", services()["node1"]["environment"]).server)
    assert chart == VALUES["shutdown"]["delay" if row == "the proxy sees" else "grace"]
    assert systemd == (None if row == "the proxy sees" else of(ServerSection()))


def test_whoever_kills_waits_for_as_long_as_it_says() -> None:
    systemd, compose, chart = cells("whoever kills")
    assert systemd == Duration.parse(Settings()["Service"]["TimeoutStopSec"])
    assert compose == Duration.parse(services()["node1"]["stop_grace_period"])
    assert chart == VALUES["shutdown"]["grace"] + 10  # as test_helm.py sees it in a pod
    assert f"{AFTER_GRACE_S:g} s more" in TEXT
    assert command_of_docker_stop() >= ServerSection().shutdown_grace + AFTER_GRACE_S


def cells(row: str) -> list[float | None]:
    """The last three of a row of the table of times, in seconds; None where there is no figure."""
    [line] = [line for line in TEXT.splitlines() if line.startswith(f"| {row}")]
    found = [re.fullmatch(r"(\d+) s", cell.strip()) for cell in line.strip("|").split("|")[2:]]
    assert len(found) == 3
    return [float(each[1]) if each else None for each in found]


def command_of_docker_stop() -> int:
    [found] = re.findall(r"`docker stop -t (\d+)`", TEXT)
    return int(found)


# --- its commands -----------------------------------------------------------------------------------------------------


def test_its_command_makes_secrets_that_the_nodes_take(tmp_path: Path) -> None:
    shutil.copy(COMPOSE / ".env.example", tmp_path)
    run("sh", "-c", command("awk"), cwd=tmp_path)
    made = dict(re.findall(r"^(\w+)=(.*)$", (tmp_path / ".env").read_text(), re.MULTILINE))
    assert made.keys() == dict(re.findall(r"^(\w+)=(.*)$", (COMPOSE / ".env.example").read_text(), re.MULTILINE)).keys()
    assert len(set(made.values())) == len(made), "each its own"
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in made.values())


async def test_its_command_waits_until_a_node_is_ready(tmp_path: Path) -> None:
    server = await ServerProcess(tmp_path).start()
    try:
        waiting = command("until curl")
        assert "http://127.0.0.1:8000/readyz" in waiting
        run("sh", "-c", waiting.replace("http://127.0.0.1:8000", server.url))
    finally:
        server.kill()
