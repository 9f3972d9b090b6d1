"""The wheel, installed into an environment that has nothing else of ours, and used outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import images_here
import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("resnetlab", "pyproject.toml", "README.md", "LICENSE")
SMALL = (
    *("--trials", "2", "--epochs", "1", "--storage", "here", "--name", "small"),
    *("--set", "confirm.seeds=1", "--set", "baseline.width=4"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that the checkout stays clean."""
    place = tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / name)
    build = "wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir dist ."
    subprocess.run([sys.executable, "-m", "pip", *build.split()], cwd=place, check=True, timeout=300)
    (built,) = (place / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def call(wheel, tmp_path_factory):
    """Runs a command of the new environment in an empty folder; the packages that ours needs are borrowed from the
    environment that runs the tests."""
    place = tmp_path_factory.mktemp("elsewhere")
    home = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (packages,) = (home / "lib").glob("python*/site-packages")
    install = ["--python", home / "bin/python", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, timeout=300)
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    images_here.make(place / "work/photos", seed=0, each=20)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "RESNETLAB_CACHE": str(place / "cache"), "COLUMNS": "200"}

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=place / "work", env=env, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_the_studies_and_all_that_is_not_python(wheel):
    with zipfile.ZipFile(wheel) as file:
        packed = {name for name in file.namelist() if name.startswith("resnetlab/")}
    skipped = {"__pycache__"}
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "resnetlab").rglob("*")
        if path.is_file() and not skipped & set(path.parts)
    }
    assert packed == ours and "resnetlab/studies/published/font-transfer.yaml" in packed


def test_the_command_is_the_wheels(call):
    where = call("python", "-c", "import resnetlab; print(resnetlab.__file__)")
    assert "/environment/lib/" in where and str(ROOT) not in where
    assert "sweep" in call("resnetlab", "--help")


def test_the_included_studies_are_found(call):
    assert "small-target" in call("resnetlab", "sweep", "--settings").splitlines()[0]
    assert "font-transfer" in call("resnetlab", "reproduce")
    assert "4 arms" in call("resnetlab", "sweep", "--dry-run", "--set", "confirm.design=one-factor")


@pytest.mark.slow
def test_a_new_study_is_swept_and_the_printed_commands_name_the_command(call):
    assert "resnetlab sweep --study study.yaml --dry-run" in call("resnetlab", "new", "photos")
    said = call("resnetlab", "sweep", "--study", "study.yaml", *SMALL)
    assert "report: here/small/report.html" in said
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    assert line.startswith("next: resnetlab trial here/small ")
    assert "small: finished" in call("resnetlab", "status", "here/small")
    assert call("resnetlab", "report", "here/small").strip().endswith("report.html")
