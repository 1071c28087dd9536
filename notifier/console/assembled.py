"""Makes one page of its parts, and the policy that lets it use just those: it loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources


def part(name: str) -> str:
    """A file beside this one."""
    return resources.files(__package__).joinpath(*name.split("/")).read_text(encoding="utf-8")


def filled(page: str, values: Mapping[str, str]) -> str:
    """The page with `{{name}}` replaced."""
    for name, value in values.items():
        page = page.replace("{{" + name + "}}", value)
    return page


def headers(page: str) -> dict[str, str]:
    """Only the page's own script and style run (W3C, Content Security Policy 3)."""
    script = _hash_of(re.search(r"<script>(.*?)</script>", page, re.DOTALL))
    style = _hash_of(re.search(r"<style>(.*?)</style>", page, re.DOTALL))
    return {
        "Content-Security-Policy": f"default-src 'none'; script-src {script}; style-src {style}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _hash_of(match: re.Match[str] | None) -> str:
    if match is None:
        return "'none'"
    digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
    return f"'sha256-{digest}'"
