"""Check that the pages of a built site load nothing from anywhere else: no script, style, font or picture.

python docs/check_site.py build/docs
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
REL = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "shortcut icon"}
STYLED = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


class Loads(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in LOADING:
            self.addresses.append(values.get(LOADING[tag], ""))
        if tag == "link" and values.get("rel", "") in REL:
            self.addresses.append(values.get("href", ""))
        self.addresses += STYLED.findall(values.get("style", ""))


def loads(path: Path) -> list[str]:
    """The addresses on other hosts that a file of the site loads."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return STYLED.findall(text)
    page = Loads()
    page.feed(text)
    return [address for address in page.addresses if re.match(r"(https?:)?//", address)]


def main(site: str) -> int:
    files = sorted(path for path in Path(site).rglob("*") if path.suffix in (".html", ".css"))
    found = [f"{path}: loads {address}" for path in files for address in loads(path)]
    print("\n".join(found) or f"{len(files)} pages and styles load nothing from elsewhere")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
