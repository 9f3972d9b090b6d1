"""Paths that users give are expanded, or refused in one message that names the option."""

import os
from pathlib import Path

import pytest

from resnetlab.errors import BadRequest
from resnetlab.paths import user_path


def looping(folder):
    (folder / "loop").symlink_to("loop")
    return str(folder / "loop/x")


def under_a_file(folder):
    (folder / "file").touch()
    return str(folder / "file/x")


IMPOSSIBLE = {
    "an empty path": (lambda folder: "", "the path is empty"),
    "an unknown user": (lambda folder: "~nobodyhere/x", "no user 'nobodyhere' on this machine"),
    "a long name": (lambda folder: "x" * 300, r"longer than the file system allows .* \(300 characters\)|longer than"),
    "a long name in a long path": (lambda folder: f"{folder}/{'x' * 300}/y", "longer than the file system allows"),
    "a NUL byte": (lambda folder: "a\0b", r"'a\\x00b': has a NUL byte"),
    "half a character": (lambda folder: "a\ud800", "characters that no file name has"),
    "a file as a folder": (under_a_file, "a part of it is a file"),
    "a link to itself": (looping, "leads back to itself"),
}


@pytest.mark.parametrize(("path", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_path_that_cannot_be_is_refused_with_its_option(tmp_path, path, message):
    with pytest.raises(BadRequest, match=rf"^--here: .*{message}") as error:
        user_path(path(tmp_path), "--here")
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_folder_that_may_not_be_entered_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    if os.access(tmp_path / "closed", os.X_OK):
        pytest.skip("this user may enter every folder")
    with pytest.raises(BadRequest, match=r"--here: .*permission denied"):
        user_path(tmp_path / "closed/x", "--here")


def test_a_path_is_made_absolute_whether_it_exists_or_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("absent/x", "--here") == tmp_path / "absent/x"
    assert user_path("~/x", "--here") == tmp_path / "x"
    assert user_path(Path("/"), "--here") == Path("/")
    (tmp_path / "link").symlink_to("elsewhere")
    assert user_path("link", "--here") == tmp_path / "link"


def test_a_current_folder_that_is_gone_is_said(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(BadRequest, match="--here: 'x': the current folder no longer exists"):
        user_path("x", "--here")
    assert user_path("/x", "--here") == Path("/x")
