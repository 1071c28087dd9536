"""`python -m tests.soak`."""

from tests.soak.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
