"""The wheel, the source archive, the list of what they run with, and a release's notes: made by make, then used."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

from notifier import __version__
from notifier.config import DEV_API_KEY
from tests.deploy.conftest import DEPLOY, ROOT, run
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.process import Process

CONSTRAINTS = DEPLOY / "constraints.txt"
NAME = f"notifier-{__version__}"
# What the tests set for themselves would hide what an installation lacks.
OWN = ("PYTHON", "NOTIFIER_", "VIRTUAL_ENV")
ENVIRON = {name: text for name, text in os.environ.items() if not name.startswith(OWN)}
# The environment of the tests has the tools of a release.
TOOLS = ("--old-file=.venv/.release", f"BIN={Path(sys.executable).parent}", f"PYTHON={sys.executable}")


def make(*words: str) -> str:
    return run("make", "--silent", "--directory", ROOT, *TOOLS, *words, env=ENVIRON)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all that is published."""
    folder = tmp_path_factory.mktemp("dist")
    make("sbom", f"DIST={folder}")
    return folder


def in_tree(*parts: str) -> dict[str, bytes]:
    """The files of the repository below these, without what using it leaves behind."""
    files = [
        file for part in parts for file in [ROOT / part, *(ROOT / part).rglob("*")]
        if file.is_file() and "__pycache__" not in file.parts and file.name != ".env"
    ]  # fmt: skip
    return {str(file.relative_to(ROOT)): file.read_bytes() for file in files}


# --- what is in them --------------------------------------------------------------------------------------------------


def test_nothing_but_this_is_published(dist: Path) -> None:
    assert {file.name for file in dist.iterdir()} == {f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz", f"{NAME}.cdx.json"}


def test_the_wheel_has_the_package_its_licence_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    described = {name: files.pop(name) for name in list(files) if name.startswith(f"{NAME}.dist-info/")}
    assert files == in_tree("notifier")
    assert {Path(name).suffix for name in files} >= {".py", ".pyi", ".typed", ".toml", ".proto", ".lua", ".html", ".js"}
    assert described[f"{NAME}.dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"notifier = notifier.cli:main" in described[f"{NAME}.dist-info/entry_points.txt"]


def test_the_source_archive_has_what_it_takes_to_build_configure_and_deploy(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        files = {
            member.name.removeprefix(f"{NAME}/"): archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive.getmembers()
        }
    del files["PKG-INFO"]
    assert files == in_tree(
        "notifier", "config", "deploy", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", ".gitignore"
    )


def test_who_builds_it_again_gets_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """Elsewhere, from the source archive, whose files have other times."""
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python has it since 3.11.4
        archive.extractall(tmp_path)
        [epoch] = {member.mtime for member in archive.getmembers()}
    for file in (tmp_path / NAME).rglob("*"):
        os.utime(file, (1, 1))
    again = tmp_path / "again"
    run("hatchling", "build", "--directory", again, cwd=tmp_path / NAME, env={"SOURCE_DATE_EPOCH": str(epoch)})
    for built in again.iterdir():
        assert built.read_bytes() == (dist / built.name).read_bytes(), built.name
    assert len(list(again.iterdir())) == 2


# --- installed --------------------------------------------------------------------------------------------------------


class Installation:
    """In an environment and a folder in which there is nothing else."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.folder = folder / "empty"
        self.folder.mkdir()
        venv.create(folder / "venv", symlinks=True)
        self.bin = folder / "venv" / "bin"
        run(
            sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.bin / "python",
            "install", "--quiet", "--constraint", CONSTRAINTS, package, cwd=self.folder, env=ENVIRON,
        )  # fmt: skip

    def run(self, *argv: str | Path) -> str:
        return run(self.bin / argv[0], *argv[1:], cwd=self.folder, env=ENVIRON)


@pytest.fixture(scope="module", params=["-py3-none-any.whl", ".tar.gz"], ids=["wheel", "source archive"])
def installed(request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("installed"), dist / f"{NAME}{request.param}")


def test_it_is_the_installed_one_and_knows_its_version(installed: Installation) -> None:
    where = installed.run("python", "-c", "import notifier; print(notifier.__file__)").strip()
    assert Path(where).is_relative_to(installed.bin.parent)
    assert installed.run("notifier", "--version").strip() == __version__


def test_it_takes_the_configuration_that_it_comes_with(installed: Installation, dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        member = archive.extractfile(f"{NAME}/config/notifier.toml")
        assert member
        (installed.folder / "notifier.toml").write_bytes(member.read())
    assert "log memory" in installed.run("notifier", "check", "--config", "notifier.toml")


@pytest.fixture
def url(installed: Installation, tmp_path: Path) -> Iterator[str]:
    """Of a server in development mode."""
    port = free_port()
    environ = {**ENVIRON, "NOTIFIER_SERVER__PORT": str(port)}
    argv = [str(installed.bin / "notifier"), "serve", "--dev"]
    server = Process(argv, environ, installed.folder, tmp_path / "log")
    try:
        yield f"http://{LOCALHOST}:{port}"
    finally:
        server.kill()


async def test_it_serves(url: str) -> None:
    async with aiohttp.ClientSession(url) as http:

        async def ready() -> bool:
            async with http.get("/readyz") as response:
                return response.status == 200

        await eventually(ready, 30 * SECOND, retry=(aiohttp.ClientError,))
        async with http.get("/") as console:
            assert "<title>" in await console.text()
        async with http.get("/sse", params={"channels": "news"}) as stream:
            async for line in stream.content:
                if b"subscribed" in line:
                    break
            wanted = {"channel": "news", "data": {"text": "hello"}}
            async with http.post("/api/publish", json=wanted, headers={"X-API-Key": DEV_API_KEY}) as answer:
                assert "result" in await answer.json()
            async for line in stream.content:
                if b"hello" in line:
                    assert json.loads(line.removeprefix(b"data:")) == wanted["data"]
                    return
    pytest.fail("the stream ended")


# --- the list of what it runs with ------------------------------------------------------------------------------------


def pinned() -> dict[str, str]:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_the_list_names_what_is_installed_in_the_versions_that_are_pinned(dist: Path) -> None:
    text = (dist / f"{NAME}.cdx.json").read_text()
    assert str(dist) not in text
    assert "file:" not in text
    sbom = json.loads(text)
    assert sbom["bomFormat"] == "CycloneDX"
    made = sbom["metadata"]["component"]
    assert (made["name"], made["version"], made["type"]) == ("notifier", __version__, "application")
    listed = {canonical(each["name"]): each["version"] for each in sbom["components"]}
    assert listed.items() <= pinned().items()
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        metadata = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    required = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)]
    direct = {canonical(each.name) for each in required if not each.marker or each.marker.evaluate({"extra": ""})}
    [root] = [each for each in sbom["dependencies"] if each["ref"] == made["bom-ref"]]
    assert {canonical(ref.partition("==")[0]) for ref in root["dependsOn"]} == direct
    assert direct < set(listed), "and what those need"
    assert not {"pytest", "hatchling", "cyclonedx-bom", "pip"} & set(listed)


# --- a release's notes ------------------------------------------------------------------------------------------------

CHANGELOG = """# Changelog

## Unreleased

### Added

* Later.

## 1.2.3 - 2026-01-31

### Added

* Now.

## [1.2.2] - 2026-01-01

* Before.
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A repository in which all is ready for 1.2.3."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    for name in ("notifier/__init__.py", "deploy/helm/notifier/Chart.yaml", "deploy/release/notes.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text((ROOT / name).read_text().replace(__version__, "1.2.3"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def notes(folder: Path, tag: str) -> str:
    return run("make", "--silent", "--directory", folder, f"PYTHON={sys.executable}", "release-notes", f"TAG={tag}")


def test_the_notes_are_the_section_of_the_version(release: Path) -> None:
    assert notes(release, "v1.2.3") == "### Added\n\n* Now.\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "missing"),
    [
        ("CHANGELOG.md", "## 1.2.3 - 2026-01-31", "## 1.2.4 - 2026-01-31", "CHANGELOG.md has no section for it"),
        ("CHANGELOG.md", "## 1.2.3 - 2026-01-31", "## 1.2.3", "`## 1.2.3` lacks its date"),
        ("CHANGELOG.md", "## 1.2.3 - 2026-01-31", "## 1.2.3 - soon", "`## 1.2.3 - soon` lacks its date"),
        ("CHANGELOG.md", "### Added\n\n* Now.\n", "", "says nothing below `## 1.2.3 - 2026-01-31`"),
        ("notifier/__init__.py", "1.2.3", "1.2.2", "notifier/__init__.py: __version__ is 1.2.2, not 1.2.3"),
        ("deploy/helm/notifier/Chart.yaml", "\nversion: 1.2.3", "\nversion: 1.2.2", "Chart.yaml: version is 1.2.2"),
        ("deploy/helm/notifier/Chart.yaml", "\nappVersion", "\nother", "Chart.yaml: appVersion is nothing"),
    ],
)
def test_without_one_of_its_parts_there_is_no_release_and_it_is_named(
    release: Path, file: str, old: str, new: str, missing: str
) -> None:
    text = (release / file).read_text()
    assert old in text
    (release / file).write_text(text.replace(old, new))
    with pytest.raises(pytest.fail.Exception, match=re.escape(missing)):
        notes(release, "v1.2.3")


def test_everything_that_is_missing_is_said_at_once(release: Path) -> None:
    with pytest.raises(pytest.fail.Exception) as failure:
        notes(release, "v2.0.0")
    assert failure.value.msg
    assert len([line for line in failure.value.msg.splitlines() if "2.0.0" in line and "ended with" not in line]) == 4


@pytest.mark.parametrize("tag", ["", "1.2.3", "v1.2", "v1.2.3-rc.1", "v01.2.3", "v1.2.3.4", "version"])
def test_what_is_no_tag_of_a_release(release: Path, tag: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=re.escape(repr(tag))):
        notes(release, tag)
