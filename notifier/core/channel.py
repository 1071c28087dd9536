"""Channel names and the patterns that match them.

Names are words separated by dots. Patterns are RabbitMQ's topic patterns, so that they read as bindings do: `*` stands
for exactly one word, `#` for any number of words (https://www.rabbitmq.com/tutorials/amqp-concepts, topic exchange).
One thing is more: a name may begin with a namespace and a colon, as in `chat:room.7`, and what stands after it is a
topic pattern of its own, so that `chat:#` is all of a namespace.
"""

from __future__ import annotations

import re

RESERVED = "$notifier."
MAX_BYTES = 255  # a routing key's limit in AMQP 0.9.1

# The first word with its colon; in a pattern it is literal.
_NAMESPACE = re.compile(r"[^.:*#]+:")
# Printable ASCII without the space, which separates names in the header `channels`.
_NAME = re.compile(r"[!-~]{1,255}", re.ASCII)
_WILDCARD = re.compile(r"(?:^[^.:*#]+:|^|\.)[*#](?:\.|$)")


def problem_with(name: str) -> str:
    """What is wrong with a channel's name; empty when nothing is."""
    if _NAME.fullmatch(name) is None:
        if not name:
            return "a channel needs a name"
        if len(name) > MAX_BYTES:
            return f"a channel's name has at most {MAX_BYTES} bytes"
        return "a channel's name is printable ASCII without spaces"
    if name.startswith(RESERVED):
        return f"names that start with {RESERVED} are the server's own"
    if is_pattern(name):
        return "the words * and # are patterns, not channels"
    return ""


class Pattern:
    """A topic pattern, split once."""

    __slots__ = ("_exact", "_namespace", "_words", "text")

    def __init__(self, text: str) -> None:
        """Raises ValueError when `text` could match nothing that is a channel's name."""
        if _NAME.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not a pattern: words of printable ASCII separated by dots")
        self.text = text
        self._namespace, self._words = parts_of(text)
        self._exact = "*" not in self._words and "#" not in self._words

    def matches(self, name: str) -> bool:
        if self._exact:
            return name == self.text
        if not name.startswith(self._namespace):
            return False
        return _words_match(self._words, name[len(self._namespace) :].split("."))

    def covers(self, other: str) -> bool:
        """Whether this pattern matches every channel that another pattern does: `*` there must stand where `*` or `#`
        stands here, and `#` where `#` does."""
        if self._exact:
            return other == self.text
        if not other.startswith(self._namespace):
            return False
        return _words_match(self._words, other[len(self._namespace) :].split("."), of_pattern=True)


def parts_of(name: str) -> tuple[str, list[str]]:
    """The namespace with its colon, empty for none, and the words behind it."""
    namespace = _NAMESPACE.match(name)
    if namespace is None:
        return "", name.split(".")
    return namespace[0], name[namespace.end() :].split(".")


def is_pattern(name: str) -> bool:
    """Whether a name has a word that stands for others."""
    return ("*" in name or "#" in name) and _WILDCARD.search(name) is not None


def problem_with_pattern(name: str) -> str:
    """What is wrong with a pattern that a client subscribes to; empty when nothing is."""
    if _NAME.fullmatch(name) is None:
        return "a pattern is printable ASCII without spaces"
    if name.startswith(RESERVED):
        return f"names that start with {RESERVED} are the server's own"
    return ""


def _words_match(pattern: list[str], words: list[str], *, of_pattern: bool = False) -> bool:
    """Greedy matching with one place to come back to, so that no pattern makes it slow."""
    at, here, star, taken = 0, 0, -1, 0
    while here < len(words):
        if at < len(pattern) and pattern[at] == "#":
            star, taken = at, here
            at += 1
        elif at < len(pattern) and (
            pattern[at] == words[here] or (pattern[at] == "*" and not (of_pattern and words[here] == "#"))
        ):
            at += 1
            here += 1
        elif star >= 0:
            taken += 1
            at, here = star + 1, taken
        else:
            return False
    return all(word == "#" for word in pattern[at:])
