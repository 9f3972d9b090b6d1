"""Fill the generated parts of README.md and docs/ with the output of the commands that they name.

python docs/generate.py                         fills all of them
python docs/generate.py docs/benchmarks.md      those of some pages
python docs/generate.py --check                 changes nothing; exit code 1 where a page is out of date

A generated part is between two comments. The first names the command, which bash runs in the repository's root:

    <!-- generated: python benchmarks/table.py -->
    <!-- end of generated -->

`generated as text:` sets the output in a code block.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PART = re.compile(r"(<!-- generated( as text)?: (.+?) -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def output(command: str) -> str:
    """What a command prints, without spaces at the ends of lines. CalledProcessError where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = os.environ | {"PATH": path, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").split("\n"))


def filled(page: str) -> str:
    """The text of a page with the output of every command that it names."""

    def fill(part: re.Match[str]) -> str:
        begin, as_text, command, end = part.groups()
        text = output(command)
        return f"{begin}```text\n{text}\n```\n{end}" if as_text else f"{begin}\n{text}\n\n{end}"

    return PART.sub(fill, page)


def main(arguments: list[str]) -> int:
    pages = [Path(name) for name in arguments if name != "--check"] or PAGES
    outdated = 0
    for page in pages:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if before != after:
            outdated += 1
            print(f"{'out of date' if '--check' in arguments else 'written'}: {page}")
            if "--check" not in arguments:
                page.write_text(after, encoding="utf-8")
    return 1 if outdated and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
