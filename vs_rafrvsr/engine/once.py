"""Remarks that are worth one line in the log of a process, however many filters it makes."""

from __future__ import annotations

_said: set[str] = set()


def is_news(remark: str) -> bool:
    """Whether this is the first time in this process that somebody asks about a remark."""
    known = remark in _said
    _said.add(remark)
    return not known
