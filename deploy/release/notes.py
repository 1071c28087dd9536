"""Whether all is said of a version that is to be released, and what is new in it.

    python deploy/release/notes.py v1.2.3 [FOLDER]

Prints the section of CHANGELOG.md of that version, without its heading. Where the tag, the changelog, the package and
the Helm chart do not agree, it says everything that is missing on standard error, and its exit code is 1.
"""

import re
import sys
from datetime import date
from pathlib import Path

# As in Semantic Versioning, without pre-releases: Python and Helm write those in two ways.
TAG = re.compile(r"v((?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*))")
HEADING = re.compile(r"^## +(.+?) *$", re.MULTILINE)


def main(tag: str, folder: Path) -> int:
    """The exit code."""
    found = TAG.fullmatch(tag)
    if found is None:
        print(f"a tag is v and three numbers, such as v1.2.3: {tag!r} is none", file=sys.stderr)
        return 1
    version = found[1]
    heading, notes = section(version, (folder / "CHANGELOG.md").read_text())
    missing = [*of_changelog(version, heading, notes), *of_versions(version, folder)]
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return 1
    print(notes)
    return 0


def section(version: str, changelog: str) -> tuple[str, str]:
    """Its heading and what stands below; both are empty where there is no such section."""
    _, *parts = HEADING.split(changelog)
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        if heading.split()[0].strip("[]") == version:
            return heading, text.strip()
    return "", ""


def of_changelog(version: str, heading: str, notes: str) -> list[str]:
    """What is missing in it."""
    if not heading:
        return [f"CHANGELOG.md has no section for it: a heading such as `## {version} - 2026-01-31`"]
    missing = [] if notes else [f"CHANGELOG.md says nothing below `## {heading}`"]
    try:
        date.fromisoformat(heading.rpartition(" - ")[2])
    except ValueError:
        missing.append(f"CHANGELOG.md: `## {heading}` lacks its date, as in `## {version} - 2026-01-31`")
    return missing


def of_versions(version: str, folder: Path) -> list[str]:
    """Where another version stands."""
    stated = [
        ("notifier/__init__.py", "__version__", r'^__version__ = "(.*)"$'),
        ("deploy/helm/notifier/Chart.yaml", "version", r"^version: (.*)$"),
        ("deploy/helm/notifier/Chart.yaml", "appVersion", r'^appVersion: "(.*)"$'),
    ]
    others = []
    for file, key, pattern in stated:
        found = re.search(pattern, (folder / file).read_text(), re.MULTILINE)
        other = found[1] if found else "nothing"
        if other != version:
            others.append(f"{file}: {key} is {other}, not {version}")
    return others


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit("usage: notes.py TAG [FOLDER]")
    sys.exit(main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) == 3 else ".")))
