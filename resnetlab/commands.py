"""Commands that are printed for users to paste, valid in the current folder.

They name the running Python, the path of the script, and paths relative to the current folder, quoted for a shell. A
user who called a script of `sweeps/` gets scripts, one who called `resnetlab` gets that.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SCRIPTS = {"sweep": "ablation.py", "fonts": "choose_fonts.py"}  # of sweeps/; other commands have scripts of their name


def command(name: str, *words: str | os.PathLike[str]) -> str:
    """The command line of the subcommand `name` with arguments, as a script of `sweeps/` or as `resnetlab NAME`."""
    return shlex.join([*_command(name), *(os.fspath(word) for word in words)])


def program() -> list[str]:
    """How this process was started, as one would type it without options: `python script.py`, `python -m module` or
    `resnetlab`. Empty in a notebook, or wherever else no file or module was started."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return [python(), "-m", spec.name.removesuffix(".__main__")]
    if not getattr(main, "__file__", None):
        return []
    start = sys.argv[0]
    return [_executable(start)] if Path(start).name == "resnetlab" else [python(), short(start)]


def _executable(path: str) -> str:
    """The name of an executable if a shell finds it by that, else its path."""
    on_path = shutil.which(Path(path).name)
    return Path(path).name if on_path and Path(on_path).absolute() == Path(path).absolute() else short(path)


def python() -> str:
    """`python` or `python3` if a shell finds the running interpreter by that name, else its path."""
    for name in ("python", "python3"):
        on_path = shutil.which(name)
        if on_path and Path(on_path).absolute().parent == Path(sys.executable).parent:
            with suppress(OSError):
                if Path(on_path).samefile(sys.executable):
                    return name
    return short(sys.executable) if sys.executable else "python3"


def _command(name: str) -> list[str]:
    """`resnetlab NAME` if that is how this process was called; else the script of `name` beside the running one, or in
    this checkout; else `python -m resnetlab NAME`."""
    script, called = SCRIPTS.get(name, f"{name}.py"), program()
    if called and Path(called[-1]).name == "resnetlab":
        return [*called, name]
    for folder in (Path(sys.argv[0]).absolute().parent, Path(__file__).resolve().parents[1] / "sweeps"):
        if (folder / script).is_file():
            return [python(), short(str(folder / script))]
    return [python(), "-m", "resnetlab", name]


def short(path: str) -> str:
    """A path relative to the current folder if that is shorter; URLs stay as they are."""
    if "://" in path or not path:
        return path
    try:
        return min(path, os.path.relpath(path), key=len)
    except OSError:  # the current folder has been deleted
        return path


def whereabouts(folder: Path | None, data: str | None) -> dict[str, Any]:
    """What a results folder records so that its commands can be repeated.

    directory: the current folder. data_place: where the images or fonts are (`data`), None if the dataset finds them by
    itself. Paths are relative to a local `folder`, so that both can be moved together; absolute if it is None (a URL).
    """
    places = {"directory": str(Path.cwd()), "data_place": data and str(Path(data).absolute())}
    return {
        name: path if path is None or folder is None else os.path.relpath(path, folder) for name, path in places.items()
    }


def place(folder: Path | None, recorded: Any) -> str | None:
    """The absolute form of a path that `whereabouts` recorded; None if it recorded none."""
    if not isinstance(recorded, str) or not recorded or "\0" in recorded:
        return None
    return os.path.normpath((folder or Path("/")) / recorded)


def continued(text: str, folder: Path | None, directory: Any) -> str:
    """The recorded command `text`, preceded by `cd` to the `directory` in which it was given, if that is elsewhere."""
    start = place(folder, directory)
    if not text or start is None or not Path(start).is_dir() or Path.cwd() == Path(start):
        return text
    return f"cd {shlex.quote(short(start))} && {text}"
