"""The workflow of CI: checked by its schema and by a linter of its security, and held against what it builds on."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, ROOT, find, run

FILE = ROOT / ".github" / "workflows" / "ci.yml"
TEXT = FILE.read_text()
JOBS: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["jobs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RELEASING = {"publish-image", "release", "publish-package"}
# What each may write; the others only read.
WRITING = {"release": {"contents", "id-token", "attestations"}, "publish-package": {"id-token"}}


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = JOBS[job]["steps"]
    return found


def scripts() -> list[str]:
    return [step["run"] for job in JOBS for step in steps(job) if "run" in step]


def needed_by(job: str) -> set[str]:
    """The jobs that must have succeeded before it."""
    direct = set(JOBS[job].get("needs", []))
    return direct.union(*map(needed_by, direct))


# --- by checkers ------------------------------------------------------------------------------------------------------


def test_it_is_a_workflow() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", FILE)


def test_the_linter_of_its_security_finds_nothing() -> None:
    assert "No findings" in run("zizmor", "--offline", "--no-progress", FILE)


@pytest.mark.parametrize("script", scripts())
def test_its_scripts_can_be_read_by_the_shell(script: str) -> None:
    subprocess.run([find("bash"), "-n"], input=script.encode(), check=True)


# --- what it may do ---------------------------------------------------------------------------------------------------


def test_every_action_is_one_commit_and_says_which_version_that_is() -> None:
    used = re.findall(r"uses: (.*)$", TEXT, re.MULTILINE)
    assert len(used) >= 10
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each
    assert len({each.partition(" # ")[0] for each in used}) == len({each.partition("@")[0] for each in used})


def test_each_job_may_do_what_it_needs_and_no_more() -> None:
    assert yaml.safe_load(TEXT)["permissions"] == {}
    for name, job in JOBS.items():
        assert {each for each, how in job["permissions"].items() if how == "write"} == WRITING.get(name, set()), name
        assert set(job["permissions"].values()) <= {"read", "write"}
        assert job["timeout-minutes"] <= 60


def test_what_it_checks_out_holds_no_credentials() -> None:
    checkouts = [step for job in JOBS for step in steps(job) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) >= 5
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_secrets_are_only_where_something_is_published() -> None:
    for name, job in JOBS.items():
        assert name in RELEASING or not re.search(r"secrets\.|github\.token", str(job)), name
        assert (job.get("environment") == "release") == (name in RELEASING), name


def test_only_a_tag_publishes_and_only_what_has_passed_everything() -> None:
    checks = set(JOBS) - RELEASING
    for name in RELEASING:
        assert JOBS[name]["if"].startswith("startsWith(github.ref, 'refs/tags/v')"), name
        assert needed_by(name) >= checks, name


def test_where_to_publish_is_for_the_repository_to_say_and_without_it_nothing_is() -> None:
    assert re.findall(r"[\w-]+\.(?:io|com|org|net|dev)\b", re.sub(r"^ *#.*$", "", TEXT, flags=re.MULTILINE)) == []
    for name, wanted in {"publish-image": {"IMAGE", "REGISTRY"}, "publish-package": {"PACKAGE_INDEX"}}.items():
        used = set(re.findall(r"\$\{\{ vars\.(\w+) \}\}", TEXT[TEXT.index(f"\n  {name}:") :].partition("\n\n")[0]))
        asked = set(re.findall(r"vars\.(\w+) != ''", JOBS[name]["if"]))
        assert used == asked == wanted
        for each in wanted:
            assert f"`{each}`" in (ROOT / "CONTRIBUTING.md").read_text()


# --- what it builds on ------------------------------------------------------------------------------------------------


def test_the_targets_that_it_makes_are_there() -> None:
    there = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for script in scripts() for line in re.findall(r"^make ([^#>]*)", script, re.MULTILINE)]
    words = [word for line in lines for word in line.split()]
    targets = {word for word in words if not word.startswith("-") and "=" not in word}
    assert targets <= there
    assert targets >= {"lint", "test", "test-optimized", "audit", "dist", "sbom", "release-notes", "bench-core"}


def test_it_tests_on_every_python_that_is_promised() -> None:
    promised = [line.rpartition(" :: ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert JOBS["test"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    image = re.search(r"^ARG PYTHON=(.*)$", (DEPLOY / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    assert image
    assert image[1] in promised


def test_the_image_is_the_one_that_the_chart_asks_for() -> None:
    """A tag is v1.2.3; the image's and the chart's appVersion are 1.2.3."""
    [strip] = [step for step in steps("publish-image") if step.get("id") == "release"]
    chart = yaml.safe_load((DEPLOY / "helm" / "notifier" / "Chart.yaml").read_text())
    version = run(
        "bash", "-c", strip["run"], env={"GITHUB_REF_NAME": f"v{chart['appVersion']}", "GITHUB_OUTPUT": "/dev/stdout"}
    )
    assert version == f"version={chart['appVersion']}\n"
    [push] = [step["with"] for step in steps("publish-image") if step.get("with", {}).get("push")]
    assert push["tags"] == "${{ vars.IMAGE }}:${{ steps.release.outputs.version }}"
    arguments = {line.partition("=")[0] for line in push["build-args"].splitlines()}
    assert arguments <= set(re.findall(r"^ARG (\w+)", (ROOT / push["file"]).read_text(), re.MULTILINE))
