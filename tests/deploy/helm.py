"""Helm as a library, in a process of its own: it brings Go's runtime along, which does not share one gladly.

python -m tests.deploy.helm lint|render CHART < values.json
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(what: str, chart: str) -> None:
    import helm_python as helm

    values: dict[str, Any] = json.load(sys.stdin)
    if what == "lint":
        print(json.dumps(helm.lint(chart, values, strict=True, namespace="here")))
        return
    with helm.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        print(json.dumps(loaded.render(values, name="release", namespace="here", is_install=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
