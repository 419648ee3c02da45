"""Text that a script writes between two marks of a Markdown document, and rows of tables."""

from __future__ import annotations

from collections.abc import Iterable


def replaced(text: str, begin: str, end: str, inside: str) -> str:
    """The text with other lines between two that are marks; each ends with a newline."""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"the document needs the lines {begin.strip()} and {end.strip()}, to write between them")
    return f"{before}{begin}{inside}{end}{after}"


def table_row(cells: Iterable[str]) -> str:
    """A table's row, a line."""
    return f"| {' | '.join(cells)} |\n"
