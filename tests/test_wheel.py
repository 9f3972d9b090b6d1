"""The wheel, built and used: what it lacks is found by no other test, because all others run in the checkout.

It is built from a copy, because setuptools would add what an earlier build left in `build/`, and with the setuptools
that is installed here, because a build in isolation needs the package index. It is installed into a virtual environment
that sees the dependencies but not this checkout: its editable install is a .pth file, and those are not read there.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import images_here
import pytest
from docs_here import written

ROOT = Path(__file__).resolve().parents[1]
LONG = 540  # seconds that a command may take on a loaded machine; pytest ends a test after 600

USE = """
import importlib, json, pkgutil, sys
from pathlib import Path

import resnetlab
from resnetlab.driver.options import Options
from resnetlab.driver.run import run_study
from resnetlab.report.build import build_report
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import load_study

folder = run_study(load_study(Path("small.yaml")), Options(storage="results", cache=Path("cache").absolute()))
report = build_report(folder.path)
trials = read_table(ResultsFolder.at(folder.path), "trials").to_pandas()
for module in pkgutil.walk_packages(resnetlab.__path__, "resnetlab."):
    importlib.import_module(module.name)
print(json.dumps({
    "files": sorted(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "resnetlab"),
    "report": str(report),
    "revisions": sorted(set(trials["git_revision"].dropna())),
    "states": sorted(set(trials["status"])),
    "trials": len(trials),
    "accuracy": float(trials["val_accuracy"].max()),
}))
"""
STUDY = """
dataset: {name: digits}
baseline: {model: mlp, batch_size: 64, lr: 0.1}
factors:
  lr: {levels: [0.1, 0.05]}
search: {trials: 1, epochs: 1}
confirm: {design: one-factor, seeds: 2}
"""


SMALL = (
    *("--trials", "2", "--epochs", "1", "--storage", "here", "--name", "small", "--slots", "1"),
    *("--set", "confirm.seeds=1", "--set", "baseline.width=4"),
)
FOREST = ("--trials", "2", "--slots", "1", "--set", "confirm.seeds=2", "--set", "baseline.trees=5")


def run(*words, **options):
    """What a command prints; where it fails, all of that is in the failure."""
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=LONG, **options)
    assert done.returncode == 0, f"{' '.join(words)[:200]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def files(folder):
    """Every file of the package, bytecode left out."""
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what the package is built from."""
    place = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "resnetlab", place / "resnetlab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, place)
    return place


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    made = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    run(*pip, "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", made, source)
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """The Python of an environment with the wheel and the dependencies, from which this checkout is not seen.

    It lies in a git repository, as the environments of many projects do.
    """
    place = tmp_path_factory.mktemp("elsewhere")
    if shutil.which("git"):
        run("git", "init", "--quiet", place)
        identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
        run("git", "-C", place, *identity, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    run(sys.executable, "-m", "venv", "--without-pip", place)
    (packages,) = place.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", place / "bin/python", "install"]
    run(*pip, "--no-index", "--no-deps", wheel)  # before the dependencies are seen, among which is this checkout
    seen = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(seen)))
    return place / "bin/python"


@pytest.fixture(scope="module")
def call(elsewhere, tmp_path_factory):
    """Runs a command of that environment in a folder that has nothing but images."""
    place = tmp_path_factory.mktemp("work")
    images_here.make(place / "photos", seed=0, each=20)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    own = {"PATH": f"{elsewhere.parent}:{env['PATH']}", "RESNETLAB_CACHE": str(place / "cache"), "COLUMNS": "200"}

    def called(*words):
        return run(*words, cwd=place, env=env | own)

    called.place = place
    return called


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert {Path(name).suffix for name in inside} >= {".py", ".json", ".css", ".js", ".html", ".mplstyle", ".typed"}
    assert inside == files(ROOT / "resnetlab")


def test_the_tests_ask_for_the_setuptools_that_builds_the_package():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(asked["build-system"]["requires"]) <= set(asked["project"]["optional-dependencies"]["test"])


def test_the_package_is_built_without_a_warning(source, tmp_path):
    """A wheel built where a source archive was: setuptools then knows all files, and warns of folders that it skips."""
    copy = shutil.copytree(source, tmp_path / "copy", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for build in ("build_sdist", "build_wheel"):
        code = f"import sys; from setuptools import build_meta; build_meta.{build}(sys.argv[1])"
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, cwd=copy, capture_output=True, encoding="utf-8", timeout=LONG)
        assert done.returncode == 0 and "_Warning" not in done.stderr, done.stderr
    assert list(tmp_path.glob("*.tar.gz")) and list(tmp_path.glob("*.whl"))


@pytest.mark.slow
def test_an_installed_wheel_runs_a_sweep_and_writes_its_report_outside_the_checkout(elsewhere, tmp_path):
    (tmp_path / "small.yaml").write_text(STUDY)
    (tmp_path / "use.py").write_text(USE)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    said = json.loads(run(elsewhere, "use.py", cwd=tmp_path, env=env).splitlines()[-1])
    installed = elsewhere.parents[1]
    assert [name for name in said["files"] if not Path(name).is_relative_to(installed)] == []
    assert len(said["files"]) == len([name for name in files(ROOT / "resnetlab") if name.endswith(".py")])
    assert (said["trials"], said["states"]) == (5, ["complete"]) and said["accuracy"] > 0.2
    assert said["revisions"] == []  # that of the repository around the environment is not the revision of this code
    assert "<h1" in Path(said["report"]).read_text(encoding="utf-8")


def test_the_command_is_the_wheels(call):
    where = call("python", "-c", "import resnetlab; print(resnetlab.__file__)")
    assert "/site-packages/" in where and str(ROOT) not in where
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
    call("resnetlab", "trial", *line.removeprefix("next: resnetlab trial ").split())  # fails where it differs
    assert "effects.csv" in call("resnetlab", "export", "here/small", "--csv")


@pytest.mark.slow
def test_code_of_one_s_own_is_swept(call):
    written(call.place, "forest.py", "forest.yaml")
    said = call("resnetlab", "sweep", "--study", "forest.yaml", "--storage", "here", *FOREST)
    assert "report: here/forest/report.html" in said


def test_the_statistics_are_calibrated(call):
    call("resnetlab", "calibrate", "--only", "shared-seeds", "--repeats", "20", "--out", "measured")
    assert "coverage" in (call.place / "measured/shared-seeds.md").read_text()
