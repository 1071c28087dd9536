"""The errors this program raises on purpose; each knows whose fault it was and whether trying again helps."""

from __future__ import annotations


class NotifierError(Exception):
    """Something that this program foresaw. Its text is one plain sentence for the person who caused it."""


class ConfigError(NotifierError):
    """The configuration cannot be used. `problems` holds one sentence for each mistake, with its path."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Rejected(NotifierError):
    """A record or a publication that no client may see. `reason` is one of a closed set of words."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class Unavailable(NotifierError):
    """A part that this needs is away for now; trying again later helps."""


class TokenError(NotifierError):
    """A token that is not to be trusted. The text never holds the token or its claims."""


class TokenExpired(TokenError):
    """A token whose time is over, or has not come yet: a new one helps."""


class TokensUnavailable(Unavailable):
    """No token can be judged now: the keys to verify it with cannot be had. The token may well be good."""


class WorkRefused(NotifierError):
    """The peer said no for good (permissions, a wrong declaration): somebody has to change something."""
