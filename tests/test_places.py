"""Places that a machine may lack, or has elsewhere: temporary folders, homes, caches, the current folder; and paths
that cannot be."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import images_here
import pytest
from doors import Door
from made_results import make_results

from resnetlab.errors import BadRequest
from resnetlab.ray_backend import cluster
from resnetlab.vision.data import default_cache

ROOT = Path(__file__).resolve().parents[1]
LONG = "x" * 300
STUDY = """
dataset: {name: folder, root: images}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 8}
arms: {a: {}, b: {kernel: 1}}
search: {epochs: 1}
confirm: {design: arms, seeds: 1}
"""


@pytest.fixture
def temporary(monkeypatch):
    """Sets TMPDIR and RAY_TMPDIR; gives where Ray goes then."""

    def chosen(tmpdir: Path | str | None, ray: Path | str | None = None) -> Path:
        for name, value in {"TMPDIR": tmpdir, "RAY_TMPDIR": ray}.items():
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(tempfile, "tempdir", None)
        return cluster.temporary_folder()

    return chosen


def test_a_local_ray_goes_where_its_sockets_have_room(temporary, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        assert temporary(short) == Path(short)
        deep = Path(short) / ("batch_system_job_directory/" + "0" * 40)
        deep.mkdir(parents=True)
        assert temporary(deep) == Path("/tmp")
        assert temporary(deep, ray=short) == Path(short)
        assert temporary(f"{short}/absent") == temporary(None) == Path("/tmp")
        assert temporary("/proc") == Path("/tmp")
        with pytest.raises(BadRequest, match=r"^RAY_TMPDIR: .* bytes, too many for the sockets .*107 \(allowed: 3\d\)"):
            temporary(None, ray=deep)
        monkeypatch.setattr(cluster, "FOLDER_BYTES", 3)
        with pytest.raises(BadRequest, match=r"^TMPDIR: .* set RAY_TMPDIR to a folder whose path has at most 3 bytes"):
            temporary(short)


def test_the_cache_is_found_or_the_variable_named(monkeypatch, tmp_path):
    for name in ("RESNETLAB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache/resnetlab"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # invalid, says its specification, and to be ignored
    assert default_cache() == tmp_path / ".cache/resnetlab"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg/resnetlab"
    monkeypatch.setenv("RESNETLAB_CACHE", "~/mine")
    assert default_cache() == tmp_path / "mine"
    monkeypatch.setenv("RESNETLAB_CACHE", "here")
    assert default_cache() == tmp_path / "here"
    for odd in ("~nobodyhere/x", LONG):
        monkeypatch.setenv("RESNETLAB_CACHE", odd)
        with pytest.raises(BadRequest, match=r"^RESNETLAB_CACHE: "):
            default_cache()
    monkeypatch.delenv("RESNETLAB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    for home in ("", "relative"):
        monkeypatch.setenv("HOME", home)
        with pytest.raises(BadRequest, match=r"^no home folder for the data cache: set RESNETLAB_CACHE"):
            default_cache()


def test_a_user_whom_the_machine_does_not_know_is_told_to_name_a_cache(monkeypatch):
    """As in a container that runs under a number of its own."""
    for name in ("RESNETLAB_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(BadRequest, match=r"^no home folder"):
        default_cache()
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert not cluster._has_token()


def script(here: Path, name: str, *words: str, **more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "sweeps" / name), *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": "/tmp/unused"} | more
    return subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=500)


def test_a_current_folder_that_was_deleted_is_said(tmp_path):
    gone = tmp_path / "gone"
    line = f'mkdir {gone}; cd {gone}; rmdir {gone}; exec "$0" "$@"'
    for words in (["status.py", "x"], ["ablation.py", "--dry-run"], ["reproduce.py"]):
        command = ["bash", "-c", line, sys.executable, str(ROOT / "sweeps" / words[0]), *words[1:]]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: the current folder has been deleted: change to one that exists\n"


def test_the_default_storage_in_a_folder_that_cannot_be_written_is_refused_by_name():
    done = script(Path("/proc"), "ablation.py", "--dry-run")
    assert (done.returncode, done.stderr) == (2, "error: --storage results: /proc cannot be written\n")


PATHS = {
    "~nobodyhere/x": "no user 'nobodyhere'",
    LONG: "longer than the file system allows",
    "s.yaml/x": "is a file, not a folder",
}
WORDS = {
    "--storage": ["ablation", "--dry-run", "--storage", "PATH"],
    "--study": ["ablation", "--dry-run", "--study", "PATH.yaml"],
    "--weights": ["ablation", "--dry-run", "--weights", "PATH"],
    "RESULTS": ["status", "PATH"],
    "serve RESULTS": ["serve", "PATH"],
    "--out": ["report", "made", "--figure", "effects", "--out", "PATH.pdf"],
    "--export": ["trial", "made", "3", "--export", "PATH"],
    "--data": ["trial", "made", "3", "--data", "PATH"],
    "--optuna": ["export", "made", "--optuna", "PATH.db"],
    "--tensorboard": ["export", "made", "--tensorboard", "PATH"],
    "--table": ["reproduce", "--table", "PATH"],
    "FOLDER": ["choose_fonts", "3", "PATH"],
    "--fonts": ["choose_fonts", "3", "fonts", "--fonts", "PATH"],
    "calibrate --out": ["calibrate", "--repeats", "1", "--sweeps", "1", "--out", "PATH"],
}


@pytest.mark.parametrize("option", WORDS)
def test_a_path_that_cannot_be_is_refused_with_its_option(tmp_path, option):
    (tmp_path / "s.yaml").write_text(STUDY)
    make_results(tmp_path / "made", confirm=False)
    name, *words = WORDS[option]
    with Door(name) as door:
        for path, said in PATHS.items():
            done = door.call(tmp_path, *(word.replace("PATH", path) for word in words), RESNETLAB_CACHE="/tmp/unused")
            assert done.code == 2, done.err
            assert done.err.startswith(f"error: {option.split()[-1]}") and said in done.err
            assert done.err.count("\n") == 1 and "Traceback" not in done.err
        if option in ("--storage", "RESULTS"):
            done = door.call(tmp_path, *(word.replace("PATH", "") for word in words), RESNETLAB_CACHE="/tmp/unused")
            assert done.code == 2 and done.err.startswith(f"error: {option}: ") and "empty" in done.err


@pytest.mark.slow
def test_a_sweep_runs_under_a_batch_systems_tmpdir_and_without_a_home(tmp_path):
    images_here.make(tmp_path / "images", seed=0, each=12)
    (tmp_path / "s.yaml").write_text(STUDY)
    job = tmp_path / "batch_system_job_directory/1234567890/task.0001/scratch"
    job.mkdir(parents=True)
    more = {"TMPDIR": str(job), "HOME": "/proc/nowhere", "RESNETLAB_CACHE": str(tmp_path / "cache")}
    kept = {name: os.environ.pop(name) for name in ("RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH") if name in os.environ}
    try:
        done = script(tmp_path, "ablation.py", "--study", "s.yaml", **more)
    finally:
        os.environ.update(kept)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "results/s/report.html").exists() and not list(job.iterdir())
