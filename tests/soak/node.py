"""The server's own command line, in a process that may have a seeded bug: `python -m tests.soak.node [--bug NAME] serve
--config FILE`. The product has no switch for any of them."""

from __future__ import annotations

import argparse
import sys

from notifier.cli import main as notifier
from tests.soak import bugs


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bug", choices=sorted(bugs.BUGS))
    parser.add_argument("--seed", type=int, default=0)
    options, rest = parser.parse_known_args(argv)
    if options.bug:
        bugs.BUGS[options.bug].plant(options.seed)
    return notifier(rest)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
