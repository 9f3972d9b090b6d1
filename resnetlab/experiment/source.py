"""The source of a user's code: the files that a reference needs, found without running them, and what changed in them.

Only what is recorded here can be imported beside a user's file: `trace` decides both. Files are compared by their
syntax: comments, layout and docstrings do not count, values, names, annotations and the order of statements do.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import secrets
import shutil
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import packages_distributions, version
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.study.frozen import digest

MOST_FILES = 500  # of an installed package that is recorded file by file; of a larger one the version is
SITE = tuple(Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib"))
INDEX = "index.json"
NOT_LOCAL = frozenset(sys.stdlib_module_names) | {"resnetlab"}  # names that no file beside a study can take


@dataclass(frozen=True)
class Trace:
    """What importing one file runs, read off its import statements.

    files: the file itself and all that it needs from `search`, absolute. names: top-level modules found there.
    root: the folder that its package lies in, None for a study's file. only: the package whose version stands for
    its files.
    """

    search: tuple[Path, ...]
    files: tuple[Path, ...]
    names: frozenset[str] = frozenset()
    root: Path | None = None
    only: str = ""


class Blobs(Protocol):
    """A folder that keeps named blobs, such as `storage.ResultsFolder`."""

    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, data: bytes) -> None: ...
    def read_json(self, name: str) -> dict[str, Any] | None: ...
    def write_json(self, name: str, content: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Change:
    """One difference between two sources. definition: `net`, `Net.forward`, `WIDTH`; empty for the whole file."""

    file: str
    definition: str
    how: str  # changed, added, removed or reordered

    def __str__(self) -> str:
        return f"{self.file}: {self.definition} {self.how}" if self.definition else f"{self.file}: {self.how}"


@dataclass(frozen=True)
class Source:
    """Python files by relative name, as text: those of the study below `study/`, those of packages below `packages/`.

    folder: the name below which references to files begin: that of the study file's own folder.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    folder: str = "study"

    def __post_init__(self) -> None:
        for name in (*self.files, self.folder):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name:
                raise FolderRefused(f"source: {name!r} is not the name of a file below the folder")

    @classmethod
    def collect(cls, traces: Iterable[Trace], folder: Path, registered: Mapping[str, str] | None = None) -> Source:
        """The files of all `traces`. BadRequest where one cannot be read.

        folder: that of the study file. registered: the entry points that lead to them, as text by package.
        """
        traces, files = list(traces), {}
        loose = {file for trace in traces if trace.root is None for file in trace.files}
        folder = folder.resolve()
        top = Path(os.path.commonpath([folder, *(file.parent for file in loose)]))
        for file in loose:
            files[f"study/{file.relative_to(top).as_posix()}"] = read_text(file)
        for trace in traces:
            if trace.only:
                files[f"packages/{trace.only}/version.txt"] = f"{_version(trace.only)}\n"
            elif trace.root is not None:
                for file in trace.files:
                    files[f"packages/{file.relative_to(trace.root).as_posix()}"] = read_text(file)
        files |= {f"packages/{package}/entry_points.txt": text for package, text in (registered or {}).items()}
        return cls(dict(sorted(files.items())), PurePosixPath("study", folder.relative_to(top)).as_posix())

    @cached_property
    def hash(self) -> str:
        """32 hexadecimal digits. Equal where `changed` finds nothing, on every version of Python."""
        return digest({name: _code_hash(name, text) for name, text in self.files.items()})

    def write(self, blobs: Blobs) -> None:
        """Write each file as it is, and last an index that names them."""
        for name, text in self.files.items():
            blobs.write(name, text.encode())
        hashes = {name: digest(text) for name, text in self.files.items()}
        blobs.write_json(INDEX, {"folder": self.folder, "files": hashes})

    @classmethod
    def read(cls, blobs: Blobs) -> Source | None:
        """What `write` wrote; None where nothing was. FolderRefused where a file is absent or was edited."""
        index = blobs.read_json(INDEX)
        if index is None:
            return None
        files = {}
        for name, recorded in cls(index["files"], index["folder"]).files.items():
            text = (blobs.read(name) or b"").decode("utf-8", "replace")
            if digest(text) != recorded:
                raise FolderRefused(f"source/{name}: absent or not as it was written (allowed: the file as recorded)")
            files[name] = text
        return cls(files, index["folder"])

    def unpack(self, parent: Path) -> Path:
        """Write the files into a folder of `parent` that is named by their content, unless it is there.

        Returns the folder for `Reference.at`. Processes of one machine may do this at the same time.
        """
        place = parent / digest(dict(self.files))
        if not place.is_dir():
            aside = parent / f".{place.name}-{secrets.token_hex(4)}"
            for name, text in self.files.items():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / name).write_bytes(text.encode())
            (aside / self.folder).mkdir(parents=True, exist_ok=True)
            try:
                aside.rename(place)
            except OSError:  # another process was first
                shutil.rmtree(aside)
        return place / self.folder


def changed(before: Source, after: Source) -> list[Change]:
    """What differs, by file and definition, in the order of the files' names."""
    found: list[Change] = []
    for name in sorted({*before.files, *after.files}):
        old, new = before.files.get(name), after.files.get(name)
        if old is None or new is None:
            found.append(Change(name, "", "added" if old is None else "removed"))
        elif _code_hash(name, old) != _code_hash(name, new):
            found += _changed_definitions(name, old, new)
    return found


def _changed_definitions(name: str, old: str, new: str) -> list[Change]:
    one, other = _definitions(name, old), _definitions(name, new)
    if not (one and other):
        return [Change(name, "", "changed")]
    found = [
        Change(name, key, "added" if key not in one else "removed" if key not in other else "changed")
        for key in {**one, **other}
        if one.get(key) != other.get(key)
    ]
    return found or [Change(name, "", "reordered")]


def trace(file: Path, search: Sequence[Path], root: Path | None = None) -> Trace:
    """Follow the imports of `file` to all files below the folders of `search` that they reach.

    root: for a file of a package, the folder that the package lies in; only the package itself is followed then.
    Imports by `importlib` are not seen. BadRequest where a file cannot be read or parsed, or where a file of a study
    imports another inside a function: it could not be found by then.
    """
    file, root = file.resolve(), root and root.resolve()
    package = file.relative_to(root).parts[0].removesuffix(".py") if root else ""
    if root in SITE and sum(1 for _ in (root / package).rglob("*.py")) > MOST_FILES:
        return Trace(tuple(search), (file,), root=root, only=package)
    found: set[Path] = set()
    names: set[str] = set()
    above = [parent / "__init__.py" for parent in file.parents if root in parent.parents]
    waiting = [file, *filter(Path.is_file, above)]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        for node, late in _imports(_parsed(here)):
            modules, below = _modules(node, here, search)
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            files = {
                module: files
                for module in modules
                if (relative or _may_be_local(module, package)) and (files := _located(module, below))
            }
            waiting += [one for several in files.values() for one in several]
            if files and late and not root:
                raise BadRequest(
                    f"{here}, line {node.lineno}: imports {', '.join(files)} inside a function, where it cannot be "
                    "found (allowed: import it at the top of the file)"
                )
            names |= set() if relative else {module.partition(".")[0] for module in files}
    return Trace(tuple(search), tuple(sorted(found)), frozenset(names), root)


def defined(file: Path) -> dict[str, bool] | None:
    """The names that a file defines or imports at its top, True for a function or class; None where that cannot be told
    without running it."""
    names: dict[str, bool] = {}
    waiting: list[ast.AST] = [_parsed(file)]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = True
        elif isinstance(node, ast.alias):
            names[(node.asname or node.name).partition(".")[0]] = False
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = False
        else:
            waiting[:0] = ast.iter_child_nodes(node)
    return None if {"*", "__getattr__"} & names.keys() else names


def read_text(file: Path) -> str:
    """The text of a Python file. BadRequest where it cannot be read or is not UTF-8."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadRequest(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"{file}: not UTF-8 at byte {error.start}") from None


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(read_text(file))
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise BadRequest(f"{file}, line {error.lineno}: not Python: {error.msg}: {line}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadRequest(f"{file}: not Python: {error}") from None


def _imports(tree: ast.AST, late: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Import statements, and whether they run only when a function does; none for the type checker or for a script."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, late
        elif isinstance(node, ast.If) and _never(node.test):
            yield from _imports(ast.Module(node.orelse, []), late)
        else:
            yield from _imports(node, late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _never(test: ast.expr) -> bool:
    """True of `TYPE_CHECKING` and of `__name__ == "__main__"`, which do not hold when a module is imported."""
    text = ast.unparse(test)
    return text.rpartition(".")[2] == "TYPE_CHECKING" or text == "__name__ == '__main__'"


def _modules(node: ast.Import | ast.ImportFrom, file: Path, search: Sequence[Path]) -> tuple[list[str], Sequence[Path]]:
    """The modules that a statement may import, and the folders to look in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names], search
    below = [file.parents[node.level - 1]] if 0 < node.level <= len(file.parents) else search
    inner = [".".join(filter(None, (node.module, alias.name))) for alias in node.names]  # modules, or what one defines
    return [*filter(None, [node.module]), *inner], below


def _may_be_local(module: str, package: str) -> bool:
    top = module.partition(".")[0]
    return top == package if package else top not in NOT_LOCAL


def _located(name: str, search: Sequence[Path]) -> list[Path]:
    """The files that importing `name` from the first folder that has it runs; none where no folder has it."""
    for folder in search:
        found, place = [], folder
        for part in name.split("."):
            place /= part
            if (place / "__init__.py").is_file():
                found.append((place / "__init__.py").resolve())
            elif place.with_name(f"{part}.py").is_file():
                found.append(place.with_name(f"{part}.py").resolve())
                break
        if found:
            return found
    return []


def installed(recorded: Source) -> Source:
    """The recorded files of packages as this machine has them; those that it lacks are absent. Runs nothing."""
    found: dict[str, str] = {}
    for name in of_packages(recorded).files:
        package, *parts = PurePosixPath(name).parts[1:]
        if parts == ["version.txt"]:
            found[name] = f"{_version(package)}\n"
        for site in _sites(package.removesuffix(".py")):
            if (file := site / package / Path(*parts)).is_file():
                found[name] = read_text(file)
    return Source(found, recorded.folder)


def of_packages(source: Source) -> Source:
    """Its files of installed packages, without what registers short names: references have long been resolved."""
    held = {name: text for name, text in source.files.items() if name.startswith("packages/")}
    return Source({name: text for name, text in held.items() if not name.endswith("/entry_points.txt")}, source.folder)


def _sites(package: str) -> list[Path]:
    """The folders that a top-level package or module lies in; none where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return [Path(place).resolve().parent for place in places]


def _version(package: str) -> str:
    names = packages_distributions().get(package, [])
    return ", ".join(f"{name} {version(name)}" for name in sorted(set(names))) or package


def _code_hash(name: str, text: str) -> str:
    """A hash of what `text` means: of its syntax where it is Python, else of the text."""
    try:
        return digest(_canonical(ast.parse(text))) if name.endswith(".py") else digest(text)
    except (SyntaxError, ValueError):
        return digest(text)


def _definitions(name: str, text: str) -> dict[str, str]:
    """A hash for each function, class, method and constant; empty where `text` is not Python."""
    try:
        tree = ast.parse(text) if name.endswith(".py") else ast.Module([], [])
    except (SyntaxError, ValueError):
        return {}
    parts: dict[str, list[Any]] = defaultdict(list)
    _gather(tree.body, "", parts)
    return {key: digest(value) for key, value in parts.items()}


def _gather(body: Sequence[ast.stmt], prefix: str, parts: dict[str, list[Any]]) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            _gather(methods, f"{prefix}{node.name}.", parts)
            rest = [part for part in node.body if part not in methods]
            parts[prefix + node.name].append(_canonical(node, body=rest))
        else:
            parts[_name_of(node, prefix)].append(_canonical(node))


def _name_of(node: ast.stmt, prefix: str) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return prefix + node.name
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return ", ".join(map(ast.unparse, targets))
    return "its imports" if isinstance(node, ast.Import | ast.ImportFrom) else "its other statements"


def _canonical(node: Any, **instead: Any) -> Any:
    """A node as lists and text, without positions, docstrings and empty fields, which differ between Pythons."""
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node)) | instead
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = [part for part in fields["body"] if not _is_text(part)]
    kept = {key: value for key, value in fields.items() if value is not None and value != [] and key not in _SAID}
    return [type(node).__name__, {key: _canonical(value) for key, value in kept.items()}]


_SAID = frozenset({"kind", "ctx", "type_comment", "type_ignores"})  # fields that change nothing


def _is_text(node: ast.AST) -> bool:
    """True for a docstring, or other text that stands by itself and does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
