"""The examples as programs: each copied as it is to where its libraries are found, and run."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import EXAMPLES
from tests.sdk import javascript
from tests.servers import lacking
from tests.services.deadline import SECOND

JAVA = Path("/usr/share/java")
JARS = [JAVA / "amqp-client.jar", JAVA / "slf4j-api.jar"]
PHP = Path("/usr/share/php/PhpAmqpLib/autoload.php")


@dataclass(frozen=True)
class Program:
    """How an example is run: `command` before its file, and what must be there."""

    file: str
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()

    def argv(self, folder: Path) -> list[str]:
        """Copies it to `folder`. Skips without its language or libraries, fails without them in CI."""
        if shutil.which(self.command[0]) is None:
            lacking(f"{self.command[0]} is not installed; `make test` installs it")
        if absent := [str(path) for path in self.needs if not path.exists()]:
            lacking(f"{', '.join(absent)}: not there; `make test` installs it")
        shutil.copy(EXAMPLES / self.file, folder)
        (folder / "vendor").mkdir(exist_ok=True)
        (folder / "vendor" / "autoload.php").write_text(f"<?php require '{PHP}';")
        if not (folder / "node_modules").is_symlink():
            (folder / "node_modules").symlink_to(javascript.FOLDER / "node_modules")
        return [*self.command, self.file]


PIKA = Program("publish_pika.py", (sys.executable,))
AIO_PIKA = Program("publish_aio_pika.py", (sys.executable,))
NODE = Program("publish.mjs", ("node",), (javascript.FOLDER / "node_modules" / "amqplib",))
JAVA_CLIENT = Program("Publish.java", ("java", "-cp", ":".join(map(str, JARS))), tuple(JARS))
PHP_CLIENT = Program("publish.php", ("php", "-d", "error_reporting=24575"), (PHP,))
ADMIN = Program("publish-rabbitmqadmin.sh", ("sh",), (Path("/usr/bin/rabbitmqadmin"),))
CURL = Program("publish.sh", ("sh",), (Path("/usr/bin/curl"),))
FOLLOW_CURL = Program("follow.sh", ("sh",), (Path("/usr/bin/curl"),))
FOLLOW_PYTHON = Program("client.py", (sys.executable,))
TOKEN_PYTHON = Program("make_token.py", (sys.executable,))
TOKEN_NODE = Program("make-token.mjs", ("node",))
TOKEN_PHP = Program("make-token.php", ("php",))


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without proxies and settings of servers, and `variables`."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("NOTIFIER_") and not name.lower().endswith("_proxy")
    }
    return {**kept, **variables}


async def run(program: Program, folder: Path, variables: Mapping[str, str], *words: str) -> tuple[int, str]:
    """Its exit code and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *program.argv(folder),
        *words,
        cwd=folder,
        env=environment(variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60 * SECOND):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
        raise AssertionError(f"{program.file} did not end: {output.decode(errors='replace')}") from None
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")
