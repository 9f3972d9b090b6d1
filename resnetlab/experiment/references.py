"""What a study refers to: a built-in name, `file.py:name`, `package.module:name`, or a name that a package registers.

`refer` reads a reference without running anything. `probe` imports it in a process of its own, under a time limit, and
says what is wrong. `Reference.load` imports it here, in a driver or a worker; a `Reference` itself is a small value
that can be pickled. What a user's file prints while it is imported goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import linecache
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

from resnetlab.errors import BadRequest
from resnetlab.experiment.source import SITE, Trace, defined, read_text, trace
from resnetlab.study.frozen import digest
from resnetlab.study.yaml_io import suggestion

IMPORT_SECONDS = 2.0  # that a user's own code may take to be imported; the packages that it imports do not count
PACKAGE_SECONDS = 120.0  # that those may take, all together
TICK = 0.05  # seconds between two looks at what is running
OWN = "your own: file.py:name, or package.module:name"
IN_FILE = (
    "a function in a file, as file.py:name or imported; `%%writefile file.py` above a notebook's cell makes such a file"
)
_PROBE = f"""import json, sys
job = json.load(sys.stdin)
sys.path[:] = job["path"]
from {__name__} import answer_probe
answer_probe(job)
"""

_importing = threading.RLock()  # sys.modules and sys.meta_path are changed for the time of an import


@dataclass(frozen=True)
class Reference:
    """Where a function or class is found.

    key: of the study, for messages. text: as the study has it. name: of the object, with dots where it lies in a class.
    module: of an installed package; or file: relative to folder, which is absolute. package: that registers the name.
    """

    key: str
    text: str
    name: str
    module: str = ""
    file: str = ""
    folder: str = ""
    package: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" + (f" (registered by {self.package})" if self.package else "")

    def at(self, folder: Path) -> Reference:
        """The same where the files lie in another folder, e.g. after `Source.unpack` on another machine."""
        return replace(self, folder=str(folder)) if self.file else self

    def trace(self) -> Trace:
        """The files that it needs. Runs nothing. BadRequest where they cannot be found, read or parsed."""
        if self.file:
            file = Path(self.folder, self.file).resolve()
            search, root = list(dict.fromkeys([file.parent, Path(self.folder).resolve()])), None
        else:
            found, root = self._file_of_module()
            if found is None:  # compiled: the version of its package is all there is to record
                return Trace((), (), root=root, only=self.module.partition(".")[0])
            file, search = found, [root]
        try:
            return trace(file, search, root)
        except BadRequest as error:
            raise BadRequest(f"{self}: {error}") from None

    def load(self) -> Any:
        """The function or class. BadRequest where it cannot be imported, is not there, or cannot be called."""
        module = self._module()
        try:
            found = reduce(getattr, self.name.split("."), module)
        except AttributeError:
            known = [name for name, value in vars(module).items() if callable(value) and name[:1] != "_"]
            own = [name for name in known if getattr(vars(module)[name], "__module__", "") == module.__name__]
            raise self._absent(own or known) from None
        if not callable(found):
            kind = type(found).__name__
            raise BadRequest(f"{self}: is {_a(kind)}, which cannot be called (allowed: a function or a class)")
        return found

    def check_name(self) -> None:
        """BadRequest where the file, as it reads, does not have the name. Runs nothing, and so takes no time."""
        names = defined(Path(self.folder, self.file)) if self.file else None
        if names is not None and self.name.partition(".")[0] not in names:
            raise self._absent([name for name, callable_ in names.items() if callable_])

    def _absent(self, known: Sequence[str]) -> BadRequest:
        hint = suggestion(self.name, known) if known else " (it defines no function or class)"
        return BadRequest(f"{self}: no {self.name!r} in {self.file or self.module}{hint}")

    def beside(self, name: str, default: Any = None) -> Any:
        """What `name` is on the class, or else in the module, e.g. `METRICS`."""
        return getattr(self.load(), name, getattr(self._module(), name, default))

    def _module(self) -> ModuleType:
        found = self.trace() if self.file else None
        with _importing, contextlib.redirect_stdout(sys.stderr):
            try:
                if found is not None:
                    return _import_file(Path(self.folder, self.file), found)
                self._file_of_module()
                return importlib.import_module(self.module)
            except (KeyboardInterrupt, BadRequest):
                raise
            except SystemExit as error:
                problem = f"ends Python when it is imported (SystemExit: {error.code})"
                hint = 'allowed: such calls below `if __name__ == "__main__":`'
                raise BadRequest(f"{self}: {problem} ({hint})") from None
            except BaseException as error:
                shown = user_traceback(error, found or self.trace())
                raise BadRequest(f"{self}: cannot be imported:\n{shown}") from None

    def _file_of_module(self) -> tuple[Path | None, Path]:
        """The Python file of the module, None where it is compiled, and the folder that its top package lies in.

        Imports no part of it. BadRequest where there is no such module.
        """
        top, *parts = self.module.split(".")
        try:
            spec = importlib.util.find_spec(top)
        except ValueError:  # __main__, or another without a spec
            spec = None
        for number in range(len(parts)):
            if spec is not None:
                below = list(spec.submodule_search_locations or ())
                spec = PathFinder.find_spec(".".join([top, *parts[: number + 1]]), below)
        if spec is None:
            own = Path(self.folder, f"{top}.py")
            hint = f"did you mean {own.name}:{self.name}?" if self.folder and own.is_file() else f"allowed: {OWN}"
            raise BadRequest(f"{self}: this Python has no module {self.module!r} ({hint})")
        if not spec.origin or not spec.origin.endswith(".py"):
            return None, Path()
        file = Path(spec.origin).resolve()
        return file, file.parents[len(parts) + (file.name == "__init__.py")]

    @property
    def built_in(self) -> bool:
        """True where it is a part of resnetlab itself."""
        return self.module.partition(".")[0] == "resnetlab"


def refer(key: str, given: Any, folder: Path, built_in: Mapping[str, str], group: str = "") -> Reference:
    """Read a reference; nothing of it is imported.

    key: of the study, e.g. `model`. given: the text; from Python also a function or class that lies in a file. folder:
    of the study file. built_in: short name to `package.module:name`. group: of entry points, e.g. `resnetlab.models`.
    BadRequest where it names nothing that exists.
    """
    if callable(given):
        return _of_object(key, given)
    if not isinstance(given, str) or not given.strip():
        raise BadRequest(f"{key}: need a name, got {given!r} (allowed: {', '.join(built_in)}; {OWN})")
    text, folder = given.strip(), folder.resolve()
    place, colon, name = text.rpartition(":")
    if not colon and text.endswith(".py"):
        names = defined(Path(folder, text)) or {} if Path(folder, text).is_file() else {}
        allowed = ", ".join(f"{text}:{name}" for name, callable_ in names.items() if callable_) or f"{text}:name"
        raise BadRequest(f"{key}: {text}: name the function or class in it (allowed: {allowed})")
    if not colon:
        return _short(key, text, built_in, group)
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise BadRequest(f"{key}: {text}: {name!r} is not the name of a function or class ({OWN})")
    if place.endswith(".py"):
        file = Path(folder, place)
        if not file.is_file():
            beside = [str(Path(place).with_name(other.name)) for other in file.parent.glob("*.py")]
            hint = suggestion(place, beside) if beside else ""
            raise BadRequest(f"{key}: {text}: no such file: {file}{hint}")
        return Reference(key, text, name, file=place, folder=str(folder))
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", place):
        raise BadRequest(f"{key}: {text}: {place!r} is neither a Python file nor a module ({OWN})")
    return Reference(key, text, name, module=place, folder=str(folder))


def probe(references: Sequence[Reference], seconds: float = IMPORT_SECONDS, look: str = "") -> list[Any]:
    """Import the references in a process of its own. BadRequest with what is wrong with the first that has something.

    seconds: that each may take, without the packages that it imports. look: `module:function` of ours that is called
    there with each reference and what it leads to; what it returns, JSON-like, is returned here. Nothing of the process
    is left when this returns.
    """
    references = [reference for reference in references if not reference.built_in]
    for reference in references:
        reference.trace()
        reference.check_name()
    if not references:
        return []
    job = {
        "path": sys.path,
        "seconds": seconds,
        "references": [asdict(reference) for reference in references],
        "look": look,
    }
    child = subprocess.Popen(
        [sys.executable, "-B", "-c", _PROBE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, said = child.communicate(json.dumps(job).encode(), PACKAGE_SECONDS + seconds * len(references))
    except subprocess.TimeoutExpired:
        names = ", ".join(reference.text for reference in references)
        raise BadRequest(f"{names}: the packages that they import took more than {PACKAGE_SECONDS:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    lines = out.decode("utf-8", "replace").splitlines()
    answers = [json.loads(line) for line in lines] or [{"at": 0}]
    answer = answers[-1]
    if "problem" in answer:
        raise BadRequest(answer["problem"])
    if "done" not in answer:
        last = "\n".join(said.decode("utf-8", "replace").splitlines()[-5:])
        ending = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        reference = references[[one["at"] for one in answers if "at" in one][-1]]
        raise BadRequest(f"{reference}: Python ended with {ending} when it was imported\n{last}".rstrip())
    return [one["seen"] for one in answers if "seen" in one]


def user_traceback(error: BaseException, found: Trace) -> str:
    """The traceback of `error`, with only the frames in the user's own files, and its causes likewise."""
    shown = traceback.TracebackException.from_exception(error)
    files = {str(file) for file in found.files}

    def cut(one: traceback.TracebackException | None) -> None:
        if one is not None:
            one.stack = traceback.StackSummary.from_list([frame for frame in one.stack if frame.filename in files])
            cut(one.__cause__)
            cut(one.__context__)

    cut(shown)
    return "".join(shown.format()).rstrip()


def _short(key: str, name: str, built_in: Mapping[str, str], group: str) -> Reference:
    """A name of ours, or one that an installed package registers. Ours come first, whatever is installed."""
    if name in built_in:
        module, _, attribute = built_in[name].partition(":")
        return Reference(key, name, attribute, module=module)
    registered: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=group) if group else ():
        registered.setdefault(entry.name, {})[entry.dist.name if entry.dist else entry.value] = entry
    found = registered.get(name, {})
    if len(found) > 1:
        allowed = " or ".join(entry.value for entry in found.values())
        raise BadRequest(
            f"{key}: {name!r} is registered by {' and by '.join(sorted(found))} (allowed: {allowed}, or remove one)"
        )
    if not found:
        hint = suggestion(name, [*built_in, *registered]) if built_in or registered else ""
        raise BadRequest(f"{key}: {name!r} is not known{hint}; {OWN}")
    ((package, entry),) = found.items()
    if not entry.attr:
        raise BadRequest(
            f"{key}: {name!r}: {package} registers {entry.value!r}, a module (allowed: package.module:name, of a "
            "function or class in it)"
        )
    return Reference(key, name, entry.attr, module=entry.module, package=package)


def _of_object(key: str, given: Any) -> Reference:
    """A reference to a function or class that a caller holds. BadRequest where no worker could find it by its name."""
    name, home = getattr(given, "__qualname__", ""), getattr(given, "__module__", "") or ""
    module = sys.modules.get(home)
    file = getattr(module, "__file__", None)
    here = "this notebook or script" if home == "__main__" else "another function" if "<locals>" in name else ""
    if not name and not isinstance(given, partial):
        raise BadRequest(f"{key}: is {_a(type(given).__name__)} itself (allowed: what makes one, as {IN_FILE})")
    if "<lambda>" in name:
        raise BadRequest(f"{key}: a lambda cannot be found by workers (allowed: {IN_FILE})")
    if here or not name or module is None or file is None:
        shown = name.rpartition(".")[2] or _a(type(given).__name__)
        where = f"is defined in {here or 'no file'}, where workers cannot find it"
        raise BadRequest(f"{key}: {shown} {where} (allowed: {IN_FILE})")
    path = Path(file).resolve()
    if "." not in home and not any(path.is_relative_to(site) for site in SITE):
        return Reference(key, f"{path.name}:{name}", name, file=path.name, folder=str(path.parent))
    return Reference(key, f"{home}:{name}", name, module=home)


class _Uncached(SourceFileLoader):
    """Always compiles: two edits within a second look alike to the cache of bytecode, and no folder gets one."""

    def get_code(self, fullname: str) -> CodeType:
        return compile(read_text(Path(self.path)), self.path, "exec", dont_inherit=True)


class _Beside(MetaPathFinder):
    """Finds the modules beside a user's file that its trace names, and no others."""

    def __init__(self, found: Trace) -> None:
        self._found = found

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if fullname.partition(".")[0] not in self._found.names:
            return None
        spec = PathFinder.find_spec(fullname, list(path or map(str, self._found.search)))
        return _uncached(spec) if spec is not None else None


def _uncached(spec: ModuleSpec) -> ModuleSpec:
    if isinstance(spec.loader, SourceFileLoader):
        spec.loader = _Uncached(spec.loader.name, spec.loader.path)
    return spec


def _import_file(file: Path, found: Trace) -> ModuleType:
    """Import a file under a name of its own: of its path, and of the content of all files that it needs."""
    file = file.resolve()
    content = digest([str(file), *[[str(other), read_text(other)] for other in found.files]])
    name = f"resnetlab_user_{re.sub(r'[^0-9A-Za-z]', '_', file.stem)}_{content[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file, loader=_Uncached(name, str(file)))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _importable(found):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _importable(found: Trace) -> Iterator[None]:
    """The modules of a trace can be imported by their plain names; afterwards those names mean what they did before."""

    def of_trace() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in found.names]

    importlib.invalidate_caches()
    before = {name: sys.modules.pop(name) for name in of_trace()}
    finder = _Beside(found)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in of_trace():
            del sys.modules[name]
        sys.modules.update(before)


def answer_probe(job: Mapping[str, Any]) -> None:
    """The other side of `probe`: one JSON object a line, the last of which counts."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a user's code prints is not an answer

    def answer(**said: Any) -> None:
        print(json.dumps(said), file=answers, flush=True)

    for number, given in enumerate(job["references"]):
        reference = Reference(**given)
        answer(at=number)
        try:
            ended = threading.Event()
            watch = (reference, job["seconds"], ended, threading.get_ident(), answer)
            threading.Thread(target=_watch, args=watch, daemon=True).start()
            target = reference.load()
            ended.set()
            if job["look"]:
                module, _, name = job["look"].partition(":")
                answer(seen=getattr(importlib.import_module(module), name)(reference, target))
        except BadRequest as error:
            answer(problem=str(error))
            _leave()
    answer(done=True)
    _leave()


def _watch(reference: Reference, seconds: float, ended: threading.Event, thread: int, answer: Any) -> None:
    """Answer, and end the process, when `thread` has spent `seconds` in the user's own files.

    Time counts where the innermost frame that is of interest is a user's; where it is the import system's, a package is
    being imported.
    """
    files = {str(file) for file in reference.trace().files}
    spent = 0.0
    while not ended.wait(TICK):
        frame = sys._current_frames()[thread]
        while frame.f_code.co_filename not in files and "importlib" not in frame.f_code.co_filename and frame.f_back:
            frame = frame.f_back
        spent += TICK if frame.f_code.co_filename in files else 0.0
        if spent >= seconds:
            file, line = frame.f_code.co_filename, frame.f_lineno
            busy = f"still busy in {Path(file).name}, line {line}: {linecache.getline(file, line).strip()}"
            hint = "an import may only define things; let the function do the work"
            answer(problem=f"{reference}: is not imported after {seconds:g} s: {busy} ({hint})")
            _leave()


def _leave() -> NoReturn:
    """End this process and all that the user's code has started from it; `probe` gave it a process group of its own."""
    os.killpg(os.getpid(), signal.SIGKILL)
    raise SystemExit


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
