"""The parts of a page before it is HTML: sections with sentences, tables and names of figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

FOLDED = 12  # rows beyond which a table of details is folded


@dataclass(frozen=True)
class Table:
    """Rows of text under headings. kinds: `text`, `number`, `code`, `bar` (a fraction), `image` (a data URI), `link`
    (a text and its address) or `verdict`, one a column."""

    headings: list[str]
    kinds: list[str]
    rows: list[list[Any]]
    foot: str = ""
    title: str = ""
    folded: bool = False  # shown when its title is clicked

    def without_empty(self) -> Table:
        """The table without columns that are empty in every row."""
        return self._only([any(row[i] not in (None, "") for row in self.rows) for i in range(len(self.headings))])

    def said_once(self, *headings: str) -> Table:
        """The table with those of the columns `headings` that are equal in every row moved to the foot."""
        if len(self.rows) < 2:
            return self
        first = dict(zip(self.headings, self.rows[0], strict=True))
        same = {
            heading: first[heading]
            for i, heading in enumerate(self.headings)
            if heading in headings and len({str(row[i]) for row in self.rows}) == 1
        }
        moved = "".join(f" {heading}, in every row: {value}." for heading, value in same.items())
        kept = self._only([heading not in same for heading in self.headings])
        return replace(kept, foot=f"{self.foot}{moved}".strip())

    def footnotes(self, heading: str) -> Table:
        """The table with what several rows say under `heading` moved to the foot, and its number in its place."""
        if heading not in self.headings:
            return self
        at = self.headings.index(heading)
        texts = [row[at] for row in self.rows]
        shared = [text for text in dict.fromkeys(texts) if text and texts.count(text) > 1]
        marks = {text: f"({number})" for number, text in enumerate(shared, 1)}
        rows = [[*row[:at], marks.get(row[at], row[at]), *row[at + 1 :]] for row in self.rows]
        notes = "".join(f" {mark} {text}." for text, mark in marks.items())
        return replace(self, rows=rows, foot=f"{self.foot}{notes}".strip())

    def _only(self, kept: list[bool]) -> Table:
        def of(values: list[Any]) -> list[Any]:
            return [value for value, keep in zip(values, kept, strict=True) if keep]

        return replace(self, headings=of(self.headings), kinds=of(self.kinds), rows=[of(row) for row in self.rows])


@dataclass(frozen=True)
class Section:
    """A heading with sentences, tables and the names of figures. Where it has one of each, they stand side by side.

    figures: that it chooses itself; others say in their own files that they belong here (`figures.catalog`).
    """

    key: str
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    hypothesis: bool = False
