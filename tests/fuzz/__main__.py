"""`python -m tests.fuzz TARGET [--seconds N] [--runs N] [--defect] [--corpus FOLDER]`: exit code 0 when nothing was
found. What was found is printed with the input, and written to a file `crash-…` in the working folder."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["notifier"]):
    from tests.fuzz.defects import DEFECTS
    from tests.fuzz.targets import SEEDS, TARGETS

MAX_BYTES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1, help="end after so many inputs")
    parser.add_argument("--seed", type=int, default=0, help="of the chances; 0: another one each time")
    parser.add_argument("--defect", action="store_true", help="with a defect in the program, which must be found")
    parser.add_argument("--corpus", type=Path, help="a folder of inputs that is gone on with")
    options = parser.parse_args()
    logging.disable()
    with contextlib.ExitStack() as stack:
        folder = options.corpus or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        for index, seed in enumerate(SEEDS[options.target]):
            (folder / f"seed-{index}").write_bytes(seed)
        if options.defect:
            stack.enter_context(DEFECTS[options.target]())
        flags = [
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-max_len={MAX_BYTES}",
            f"-seed={options.seed}",
            "-timeout=10",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], str(folder), *flags], TARGETS[options.target])
        atheris.Fuzz()


main()
