"""RFC 6455 by the cases of the Autobahn test suite: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing,
large messages."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys

from tests.servers import ROOT, lacking
from tests.services.deadline import SECOND

EXCLUDED = ["12.*", "13.*"]  # of permessage-deflate, which is not offered here
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}


async def test_all_cases_pass() -> None:
    if importlib.util.find_spec("kosoku") is None:
        lacking("kosoku is not installed; `make test` installs it")
    echo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.security.echo", stdout=subprocess.PIPE, env=ENVIRON
    )
    try:
        assert echo.stdout is not None
        port = (await asyncio.wait_for(echo.stdout.readline(), 30 * SECOND)).decode().strip()
        cases = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.security.autobahn", port, *EXCLUDED, stdout=subprocess.PIPE, env=ENVIRON
        )
        out, _ = await asyncio.wait_for(cases.communicate(), 90 * SECOND)
    finally:
        echo.kill()
        await echo.wait()
    told = json.loads(out)
    assert told["cases"] > 290
    assert not told["failed"]
