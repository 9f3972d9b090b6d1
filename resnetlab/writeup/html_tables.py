"""The tables of a report as text, read back from its HTML."""

from __future__ import annotations

from html.parser import HTMLParser


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, list[list[list[str]]]] = {}
        self._section, self._cell = "", -1  # -1: outside cells

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attributes).get("id") or ""
        tables = self.found.setdefault(self._section, [])
        if tag == "table":
            tables.append([])
        elif tag == "tr" and tables:
            tables[-1].append([])
        elif tag in ("td", "th") and tables and tables[-1]:
            tables[-1][-1].append("")
            self._cell = len(tables[-1][-1]) - 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = -1
        elif tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        if self._cell >= 0:
            self.found[self._section][-1][-1][-1] += data


def tables_of(page: str) -> dict[str, list[list[list[str]]]]:
    """By the id of its section, each table as rows of cells, the headings first; white space is one space."""
    reader = _Tables()
    reader.feed(page)
    reader.close()
    return {
        section: [[[" ".join(cell.split()) for cell in row] for row in table] for table in tables]
        for section, tables in reader.found.items()
        if tables
    }
