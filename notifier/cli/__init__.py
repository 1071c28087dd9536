"""The commands: parse, call, print, exit code: 0 done, 1 failed, 2 asked wrongly (arguments, configuration)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from notifier.cli.arguments import parser
from notifier.cli.common import FAILED, MISUSED
from notifier.errors import ConfigError, NotifierError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the answer is the process's exit code."""
    options = parser().parse_args(arguments)
    options.argv = sys.argv[1:] if arguments is None else arguments
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"notifier: {problem}", file=sys.stderr)
        return MISUSED
    except NotifierError as error:
        print(f"notifier: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again while it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
