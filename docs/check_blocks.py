"""Run every code block of README.md, CONTRIBUTING.md, cluster/README.md and docs/, in a copy of the repository.

python docs/check_blocks.py                     prints a count of what was done, and every block that failed
python docs/check_blocks.py docs/study.md       one page

What is done with a block depends on its language:

python      executed, all blocks of a page in one process (in the page's folder where it has a notebook); a file,
            in Python or as text, is written for the blocks after it
sh, bash    executed by `bash -e` in the repository's root
yaml        read as a study, from which a plan is sketched
diff        checked to be one; tests/test_docs.py applies them
text        not code

An HTML comment directly above a block changes that: `<!-- not run: REASON -->`, `<!-- dry run -->` and
`<!-- file: NAME -->`; CONTRIBUTING.md explains them. Of shell commands that are not run, the scripts and
commands, their options and make targets must exist.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted(f"docs/{page.name}" for page in Path(__file__).parent.glob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "cluster/README.md", *DOCS]
COPIED = ("resnetlab", "sweeps", "docs", "cluster", "benchmarks", "tests", "results/reference", "Makefile")
NOT_CODE = ("text", "{")  # what a terminal shows, and Sphinx's directives
COMMENT = re.compile(r"<!-- (not run|dry run|file)(?:: (.+?))? -->\s*$", re.DOTALL)
SWEEPING = ("ablation.py", "reproduce.py", "resnetlab sweep", "resnetlab reproduce")
LONG = 600  # seconds in which a block must end


@dataclass(frozen=True)
class Block:
    page: str  # relative to the root
    line: int
    language: str
    text: str
    comment: str  # "not run", "dry run", "file" or ""
    argument: str  # the reason, or the file's name

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Outcome:
    block: Block
    done: str  # executed, planned, written, dry run, looked at, not run or failed
    message: str = ""


def blocks(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    before = None
    for token in MarkdownIt().parse(text):
        if token.type == "fence":
            comment = COMMENT.search(before.content) if before else None
            kind, argument = comment.groups() if comment else ("", "")
            line = (token.map or [0])[0] + 1
            found.append(Block(page, line, token.info.strip(), token.content, kind, argument or ""))
        before = token if token.type == "html_block" else None
    return found


def workplace(folder: Path) -> Path:
    """A copy of the repository in which blocks are run, with a `results/default` and a virtual environment."""
    skipped = shutil.ignore_patterns("__pycache__", ".pytest_cache", "build")
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=skipped)
        else:
            shutil.copy2(source, target)
    for name in ("default", "my-study"):  # that the pages ask about
        shutil.copytree(folder / "results/reference/default", folder / "results" / name)
    activate = folder / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("")  # the interpreter that runs this is first in PATH
    return folder


def check(page: str, text: str, place: Path) -> Iterator[Outcome]:
    """What came of each block of a page. The last outcome of its Python blocks stands for all of them."""
    found = blocks(page, text)
    python = [block for block in found if block.language == "python" and block.comment not in ("not run", "file")]
    for block in found:
        if block.comment == "not run":
            problem = "give a reason" if not block.argument else _stale(block, place)
            yield Outcome(block, "failed" if problem else "not run", problem or block.argument)
        elif block.language in ("python", "text") and block.comment == "file":
            (place / block.argument).parent.mkdir(parents=True, exist_ok=True)
            (place / block.argument).write_text(block.text, encoding="utf-8")
            yield Outcome(block, "written")
        elif block.language == "python":
            if block is python[0]:
                yield from _executed(python, place)
        elif block.language in ("sh", "bash"):
            yield _shell(block, place)
        elif block.language == "yaml":
            yield _study(block, place)
        elif block.language == "diff":
            fine = block.text.startswith("diff --git ")
            yield Outcome(block, "looked at" if fine else "failed", "" if fine else "not a diff of git's")
        elif not block.language.startswith(NOT_CODE):
            yield Outcome(block, "failed", f"no language, or one that is not checked: {block.language!r}")


def _run(command: list[str], folder: Path, place: Path, text: str = "") -> str:
    """The end of what a command said where it failed, else ''."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(place), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    env["RESNETLAB_CACHE"] = str(place / "cache")
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, input=text, capture_output=True, encoding="utf-8", timeout=LONG
        )
    except subprocess.TimeoutExpired:
        return f"not done after {LONG} s"
    return "" if done.returncode == 0 else f"exit code {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}"


def _executed(python: list[Block], place: Path) -> Iterator[Outcome]:
    """All Python blocks of a page as one program."""
    program = "\n".join(f"exec(compile({block.text!r}, {block.place!r}, 'exec'))" for block in python)
    page = place / python[0].page
    folder = page.parent if page.with_suffix(".ipynb").exists() else place
    problem = _run([sys.executable, "-"], folder, place, program)
    for block in python:
        mine = block.place in problem
        yield Outcome(block, "failed" if mine else "executed", problem if mine else "")
    if problem and not any(block.place in problem for block in python):
        yield Outcome(python[-1], "failed", problem)


def _shell(block: Block, place: Path) -> Outcome:
    lines = block.text.splitlines()
    if block.comment == "dry run":
        commands = [line.split(" #")[0].rstrip() for line in lines]
        dry = [f"{line} --dry-run" if any(name in line for name in SWEEPING) else line for line in commands]
        lines = list(dict.fromkeys(line.replace("--dry-run --dry-run", "--dry-run") for line in dry))
    problem = _run(["bash", "-e"], place, place, "\n".join(lines))
    return Outcome(block, "failed" if problem else block.comment or "executed", problem)


def _study(block: Block, place: Path) -> Outcome:
    """Read by the loader of the scripts, and planned."""
    file = place / (block.argument if block.comment == "file" else "study-of-a-block.yaml")
    file.write_text(block.text, encoding="utf-8")
    problem = _run([sys.executable, "sweeps/ablation.py", "--dry-run", "--study", file.name], place, place)
    return Outcome(block, "failed" if problem else "planned", problem)


def _stale(block: Block, place: Path) -> str:
    """What in a block that is not run does not exist: a script, an option of one, a make target."""
    if block.language not in ("sh", "bash"):
        return ""
    for line in block.text.splitlines():
        words = line.split(" #")[0].split()
        if words[:1] == ["make"] and not re.search(rf"^{words[1]}:", (place / "Makefile").read_text(), re.MULTILINE):
            return f"no such make target: {words[1]}"
        if words[:1] == ["python"] and words[1].endswith(".py"):
            if not (place / words[1]).is_file():
                return f"no such script: {words[1]}"
            command: tuple[str, ...] = (words[1],)
        elif words[:1] == ["resnetlab"]:
            command = ("-m", *words[: 1 if words[1].startswith("--") else 2])
        else:
            command = ()
        if command:
            options = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
            unknown = [option for option in options if option not in _help(place, *command)]
            if unknown:
                return f"{' '.join(words[:2])} has no {', '.join(unknown)}"
        elif words and words[0].startswith("cluster/") and not (place / words[0]).is_file():
            return f"no such script: {words[0]}"
    return ""


@cache
def _help(place: Path, *command: str) -> frozenset[str]:
    """The options that a script or command names in its help."""
    env = os.environ | {"PYTHONPATH": str(place), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=place, env=env, capture_output=True, encoding="utf-8", timeout=LONG
    )
    return frozenset(re.findall(r"--[a-z][a-z-]*", done.stdout))


def main(arguments: list[str]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="resnetlab-docs-") as name:
        place = workplace(Path(name))
        total: Counter[str] = Counter()
        for page in arguments or PAGES:
            count: Counter[str] = Counter()
            for outcome in check(page, (ROOT / page).read_text(encoding="utf-8"), place):
                count[outcome.done] += 1
                if outcome.done == "failed":
                    failed += 1
                    print(f"{outcome.block.place}: {outcome.message}", file=sys.stderr)
            total += count
            if count:
                print(f"{page}: {_words(count)}")
        print(f"all pages: {_words(total)}")
    return 1 if failed else 0


def _words(count: Counter[str]) -> str:
    return ", ".join(f"{number} {done}" for done, number in sorted(count.items())) or "no code blocks"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
