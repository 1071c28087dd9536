"""Runs the Autobahn cases against a port and prints, as JSON, how many there were and which did not pass.

In a process of its own, since the package changes modules that others use:
`python -m tests.security.autobahn PORT EXCLUDED…`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import kosoku


async def main(port: str, excluded: list[str]) -> None:
    results: list[Any]
    try:
        results = await kosoku.run_fuzzingclient(f"ws://127.0.0.1:{port}/", exclude_cases=excluded, concurrency=4)
    except kosoku.FailureError as error:
        results = error.results
    failed = {each.case_id: f"{each.behavior}, {each.behavior_close}" for each in results if not each.passed}
    print(json.dumps({"cases": len(results), "failed": failed}))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
