"""Patterns: those that are subscribed to, found by a channel's name.

A tree of their words: what it takes to find those that match depends on the channel's name and on how many of them
begin like it, not on how many there are. Each channel's answer is kept until a pattern comes or goes.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from notifier.core.channel import parts_of

T = TypeVar("T")

MOST_KEPT = 100_000  # answers, and patterns in them


class _Word(Generic[T]):
    """A place in the tree. `rest` is the place behind a `#` that stands here; `repeats` says that this is such one,
    which takes any number of words."""

    __slots__ = ("any", "next", "repeats", "rest", "value")

    def __init__(self, *, repeats: bool = False) -> None:
        self.next: dict[str, _Word[T]] = {}
        self.any: _Word[T] | None = None
        self.rest: _Word[T] | None = None
        self.repeats = repeats
        self.value: T | None = None

    def is_empty(self) -> bool:
        return not self.next and self.any is None and self.rest is None and self.value is None


class Patterns(Generic[T]):
    """One value for each pattern."""

    __slots__ = ("_by_namespace", "_kept", "_kept_size", "_values")

    def __init__(self) -> None:
        self._values: dict[str, T] = {}
        self._by_namespace: dict[str, _Word[T]] = {}
        self._kept: dict[str, list[T]] = {}
        self._kept_size = 0

    def get(self, pattern: str) -> T | None:
        return self._values.get(pattern)

    def add(self, pattern: str, value: T) -> None:
        """The pattern is new."""
        namespace, words = parts_of(pattern)
        place = self._by_namespace.setdefault(namespace, _Word())
        for word in words:
            place = _made(place, word)
        place.value = self._values[pattern] = value
        self._forget()

    def discard(self, pattern: str) -> None:
        if self._values.pop(pattern, None) is None:
            return
        namespace, words = parts_of(pattern)
        root = self._by_namespace[namespace]
        way = [root]
        for word in words:
            way.append(_made(way[-1], word))
        way[-1].value = None
        for word in reversed(words):
            if not way.pop().is_empty():
                break
            _remove(way[-1], word)
        if root.is_empty():
            del self._by_namespace[namespace]
        self._forget()

    def matching(self, channel: str) -> list[T]:
        """The values of all that match."""
        found = self._kept.get(channel)
        if found is None:
            if len(self._kept) >= MOST_KEPT or self._kept_size >= MOST_KEPT:
                self._forget()
            found = self._kept[channel] = self._find(channel)
            self._kept_size += len(found)
        return found

    def __len__(self) -> int:
        return len(self._values)

    def _find(self, channel: str) -> list[T]:
        found: list[T] = []
        namespace, words = parts_of(channel)
        if (root := self._by_namespace.get("")) is not None:
            found += _values_at(root, channel.split("."))
        if namespace and (root := self._by_namespace.get(namespace)) is not None:
            found += _values_at(root, words)
        return found

    def _forget(self) -> None:
        if self._kept:
            self._kept = {}
            self._kept_size = 0


def _made(place: _Word[T], word: str) -> _Word[T]:
    if word == "*":
        place.any = place.any or _Word()
        return place.any
    if word == "#":
        place.rest = place.rest or _Word(repeats=True)
        return place.rest
    return place.next.setdefault(word, _Word())


def _remove(place: _Word[T], word: str) -> None:
    if word == "*":
        place.any = None
    elif word == "#":
        place.rest = None
    else:
        del place.next[word]


def _values_at(root: _Word[T], words: list[str]) -> list[T]:
    """All places at once, word by word: no pattern makes one word cost more than there are places."""
    places = _with_rests([root])
    for word in words:
        following: list[_Word[T]] = []
        for place in places:
            if place.repeats:
                following.append(place)
            if (exact := place.next.get(word)) is not None:
                following.append(exact)
            if place.any is not None:
                following.append(place.any)
        places = _with_rests(following)
        if not places:
            return []
    return [place.value for place in places if place.value is not None]


def _with_rests(places: list[_Word[T]]) -> dict[_Word[T], None]:
    """These, and those behind a `#` that stands for no word."""
    found: dict[_Word[T], None] = {}
    for start in places:
        place: _Word[T] | None = start
        while place is not None and place not in found:
            found[place] = None
            place = place.rest
    return found
