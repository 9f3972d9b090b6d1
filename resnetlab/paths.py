"""Make paths that users give absolute, or refuse them with the option they were given for."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from resnetlab.errors import BadRequest

SHOWN = 60  # characters of a path that a message shows

REASONS = {
    errno.ENAMETOOLONG: "a name in it is longer than the file system allows (255 bytes on most)",
    errno.ENOTDIR: "a part of it is a file, not a folder",
    errno.ELOOP: "a symbolic link in it leads back to itself",
    errno.EACCES: "a folder in it may not be entered (permission denied)",
}


def user_path(text: str | os.PathLike[str], option: str) -> Path:
    """The absolute path that `text` means, with `~` and `~user` expanded and symbolic links kept.

    Nothing needs to exist there: what the caller needs, a folder or a file, is for the caller to check.

    Args:
        text: a path, relative to the current folder or absolute.
        option: what it was given for, as users write it: `dataset.root`, `--storage`.

    Raises:
        BadRequest: no file can have this path: it is empty, has a NUL byte, a name that is too long, an unknown
            user or a file in place of a folder, or its folders may not be entered.
    """
    given = os.fspath(text)
    if not given:
        raise BadRequest(f"{option}: the path is empty (leave the option out, or name a folder or file)")
    try:
        path = Path(given).expanduser().absolute()
        path.stat()
    except FileNotFoundError as error:
        if error.filename is None:  # raised for the current folder, not for `path`
            raise BadRequest(f"{option}: {_shown(given)}: the current folder no longer exists") from None
    except OSError as error:
        reason = REASONS.get(error.errno or 0) or error.strerror or str(error)
        raise BadRequest(f"{option}: {_shown(given)}: {reason}") from None
    except RuntimeError:
        user = given.split("/")[0]
        reason = "the home folder is unknown (set HOME)" if user == "~" else f"no user {user[1:]!r} on this machine"
        raise BadRequest(f"{option}: {_shown(given)}: {reason}") from None
    except UnicodeError:
        raise BadRequest(
            f"{option}: {_shown(given)}: has characters that no file name has under this locale (try LC_ALL=C.UTF-8)"
        ) from None
    except ValueError:
        raise BadRequest(f"{option}: {_shown(given)}: has a NUL byte, which no path can have") from None
    return path


def _shown(text: str) -> str:
    """`text` on one line of terminal-safe characters, cut if it is long."""
    return ascii(text) if len(text) <= SHOWN else f"{text[:SHOWN]!a}… ({len(text):,} characters)"


def writable_folder(text: str | os.PathLike[str], option: str) -> Path:
    """The folder that `text` means, created if it is missing: called before the results to be written there are made.

    Raises:
        BadRequest: no file can be written in it, or `user_path` refuses it.
    """
    path = user_path(text, option)
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()  # permissions do not tell: root may write anywhere but in /proc
    except OSError as error:
        raise BadRequest(f"{option} {path}: cannot be written: {error.strerror or error}") from None
    return path
