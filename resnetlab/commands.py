"""Commands that are printed for people to paste: they run in the folder in which they were printed.

So they name the Python that runs now, the scripts where they lie, and paths as seen from here, quoted for a shell. Who
called a script of `sweeps/` is told of scripts, who called `resnetlab` of that.
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
    """The command that runs `resnetlab NAME`, e.g. `trial`, with these words: as script or as command."""
    return shlex.join([*_command(name), *(os.fspath(word) for word in words)])


def program() -> list[str]:
    """How this process was started, without its options, as one would type it: `python script.py`, `python -m module`
    or `resnetlab`. Empty in a notebook and wherever else no file or module was started."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return [python(), "-m", spec.name.removesuffix(".__main__")]
    if not getattr(main, "__file__", None):
        return []
    start = sys.argv[0]
    return [_executable(start)] if Path(start).name == "resnetlab" else [python(), short(start)]


def _executable(path: str) -> str:
    """Its name where a shell finds it under that, else its path."""
    found = shutil.which(Path(path).name)
    return Path(path).name if found and Path(found).absolute() == Path(path).absolute() else short(path)


def python() -> str:
    """`python`, or `python3`, where a shell finds the interpreter that runs this under it, else its path."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and Path(found).absolute().parent == Path(sys.executable).parent:
            with suppress(OSError):
                if Path(found).samefile(sys.executable):
                    return name
    return short(sys.executable) if sys.executable else "python3"


def _command(name: str) -> list[str]:
    """The script beside the one that runs now; else as this process was called, if that was `resnetlab`; else the
    script in the checkout that this package is part of; else the command."""
    script, called = SCRIPTS.get(name, f"{name}.py"), program()
    if called and Path(called[-1]).name == "resnetlab":
        return [*called, name]
    for folder in (Path(sys.argv[0]).absolute().parent, Path(__file__).resolve().parents[1] / "sweeps"):
        if (folder / script).is_file():
            return [python(), short(str(folder / script))]
    return [python(), "-m", "resnetlab", name]


def short(path: str) -> str:
    """Relative to the current folder where that is shorter; URLs are left as they are."""
    if "://" in path or not path:
        return path
    try:
        return min(path, os.path.relpath(path), key=len)
    except OSError:  # the current folder has been deleted
        return path


def whereabouts(folder: Path | None, data: str | None) -> dict[str, Any]:
    """What a results folder records so that its commands can be given again: the current folder as `directory`, and
    where the images or fonts lie as `data_place`, None where the dataset finds them by itself.

    Paths are relative to the local `folder`, so that both can be moved together; absolute where it is behind a URL.
    """
    seen = {"directory": str(Path.cwd()), "data_place": data and str(Path(data).absolute())}
    return {
        name: path if path is None or folder is None else os.path.relpath(path, folder) for name, path in seen.items()
    }


def place(folder: Path | None, recorded: Any) -> str | None:
    """A path of `whereabouts` as an absolute one; None where none was recorded."""
    if not isinstance(recorded, str) or not recorded or "\0" in recorded:
        return None
    return os.path.normpath((folder or Path("/")) / recorded)


def continued(text: str, folder: Path | None, directory: Any) -> str:
    """The recorded command `text`, from the folder in which it was given."""
    given = place(folder, directory)
    if not text or given is None or not Path(given).is_dir() or Path.cwd() == Path(given):
        return text
    return f"cd {shlex.quote(short(given))} && {text}"
