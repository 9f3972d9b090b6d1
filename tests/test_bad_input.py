"""Bad input ends with one message and the right code, within two seconds, without a traceback, leaving nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
GOOD = """
dataset: {name: glyphs, variants: 1}
factors:
  kernel: {levels: [3, 5]}
search: {trials: 2, epochs: 2}
"""


def ablation(tmp_path, *arguments):
    """Run the script; returns (code, stderr, seconds), after checking what holds for every bad input."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    environment = os.environ | {"RESNETLAB_CACHE": str(home / "cache"), "COLUMNS": "200"}
    command = [sys.executable, str(ROOT / "sweeps/ablation.py"), *arguments]
    if not any(a == "--storage" for a in arguments):
        command += ["--storage", str(tmp_path / "results")]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    seconds = time.monotonic() - began
    assert "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "results").exists()
    return done.returncode, done.stderr, seconds


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


STUDIES = {
    "empty": ("", ["mine.yaml", "empty"]),
    "not yaml": ("a: [1", ["mine.yaml", "line"]),
    "not utf-8": (b"name: \xff\xfe", ["mine.yaml", "UTF-8"]),
    "a list": ("- 1", ["mine.yaml", "mapping"]),
    "duplicate key": (GOOD + "seed: 1\nseed: 2", ["mine.yaml, line", "'seed' stands twice"]),
    "alias": ("a: &x [1]\nb: *x", ["mine.yaml", "aliases"]),
    "object": ("a: !!python/object/apply:os.system ['true']", ["mine.yaml", "python/object"]),
    "no dataset": (GOOD.replace("dataset", "datasets"), ["dataset", "is missing"]),
    "unknown key": (GOOD + "serach: {}", ["serach", "did you mean 'search'"]),
    "unknown nested key": (GOOD.replace("trials", "trails"), ["search.trails", "did you mean 'trials'"]),
    "unknown dataset": (GOOD.replace("glyphs", "mnist"), ["dataset.name", "mnist", "cifar10"]),
    "unknown factor": (GOOD.replace("kernel", "kernal"), ["kernal", "did you mean 'kernel'"]),
    "even kernel": (GOOD.replace("[3, 5]", "[3, 4]"), ["factors.kernel", "4", "odd"]),
    "level out of range": (GOOD.replace("[3, 5]", "[3, 33]"), ["factors.kernel", "33", "11"]),
    "text for a number": (GOOD.replace("[3, 5]", "[3, '5']"), ["factors.kernel", "'5'", "int"]),
    "one level": (GOOD.replace("[3, 5]", "[3]"), ["factors.kernel", "at least two"]),
    "no levels": (GOOD.replace("[3, 5]", "[]"), ["factors.kernel", "at least two"]),
    "low above high": (GOOD.replace("levels: [3, 5]", "low: 5, high: 3"), ["factors.kernel", "low < high"]),
    "log from zero": (
        GOOD.replace("kernel: {levels: [3, 5]}", "lr: {low: 0, high: 1, log: true}"),
        ["factors.lr", "0 < low"],
    ),
    "nan bound": (GOOD.replace("kernel: {levels: [3, 5]}", "lr: {low: .nan, high: 1}"), ["factors.lr", "low"]),
    "condition on nothing": (
        GOOD.replace("[3, 5]}", "[3, 5], when: {optimiser: sgd}}"),
        ["factors.kernel.when", "optimiser"],
    ),
    "circle": (
        GOOD.replace("[3, 5]}", "[3, 5], when: {blocks: 3}}\n  blocks: {levels: [2, 3], when: {kernel: 3}}"),
        ["circle", "kernel", "blocks"],
    ),
    "zero trials": (GOOD.replace("trials: 2", "trials: 0"), ["search.trials", "got 0", "greater than or equal to 1"]),
    "negative epochs": (GOOD.replace("epochs: 2", "epochs: -1"), ["search.epochs", "got -1"]),
    "grace over epochs": (GOOD.replace("epochs: 2", "epochs: 2, grace: 3"), ["search", "grace <= epochs"]),
    "baseline outside": (GOOD + "baseline: {kernel: 7}", ["baseline", "kernel=7", "3, 5"]),
    "infeasible baseline": (GOOD + "baseline: {blocks: 1}", ["baseline", "downsample <= blocks", "blocks=1"]),
    "baseline of the wrong type": (GOOD + "baseline: {blocks: two}", ["baseline: blocks", "'two'"]),
    "grid over a range": (
        GOOD.replace("[3, 5]}", "[3, 5]}\n  lr: {low: 0.1, high: 1}").replace("trials", "sampler: grid, trials"),
        ["search.sampler", "factors.lr"],
    ),
    "confirm a range": (GOOD + "confirm: {factors: [lr]}", ["confirm.factors", "'lr'", "kernel"]),
    "fraction of one factor": (GOOD + "confirm: {design: fractional}", ["confirm.design", "2 to 8"]),
}


@pytest.mark.parametrize("case", STUDIES)
def test_bad_studies(tmp_path, case):
    text, words = STUDIES[case]
    code, error, seconds = ablation(tmp_path, "--study", write(tmp_path, text))
    assert code == 2 and seconds < 2
    for word in words:
        assert word in error, error


OPTIONS = {
    "missing study": (["--study", "nosuch"], ["nosuch", "default"]),
    "missing file": (["--study", "nosuch.yaml"], ["nosuch.yaml", "no such file"]),
    "name with parent": (["--name", ".."], ["name", "'..'"]),
    "absolute name": (["--name", "/tmp/x"], ["name", "'/tmp/x'"]),
    "empty name": (["--name", ""], ["name", "''"]),
    "name with newline": (["--name", "a\nb"], ["name"]),
    "long name": (["--name", "x" * 129], ["name", "128"]),
    "zero trials": (["--trials", "0"], ["with search.trials=0", "got 0"]),
    "baseline out of range": (["--set", "baseline.lr=.nan"], ["baseline: lr", "baseline.lr=nan"]),
    "setting that the dataset has not": (["--set", "dataset.size=8"], ["default.yaml", "dataset.size"]),
    "set without value": (["--set", "seed"], ["--set seed", "key=value"]),
    "set unknown": (["--set", "search.trails=3"], ["search.trails", "did you mean"]),
    "set below a value": (["--set", "seed.x=3"], ["seed", "integer"]),
    "negative gpus": (["--gpus-per-trial", "-1"], ["resources.gpus", "-1"]),
    "a pilot of no runs": (["--phase", "pilot"], ["confirm.pilot is 0", "2 to 1000"]),
    "a pilot of one run": (["--set", "confirm.pilot=1"], ["confirm.pilot", "no spread"]),
    "unknown storage": (["--storage", "gopher://x/y"], ["--storage gopher"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options(tmp_path, case):
    arguments, words = OPTIONS[case]
    code, error, seconds = ablation(tmp_path, *arguments)
    assert code == 2 and seconds < 2
    for word in words:
        assert word in error, error


@pytest.mark.parametrize("place", ["/proc/x", "/sys/x", "/dev/null/x", " "])
def test_places_that_cannot_hold_results(tmp_path, place):
    code, error, seconds = ablation(tmp_path, "--storage", place)
    assert code == 2 and seconds < 2 and "--storage" in error and len(error.splitlines()) == 1


def test_a_cluster_address_where_nobody_listens(tmp_path):
    for address, words in (("127.0.0.1:1", "nobody listens"), ("nonsense", "host:port")):
        code, error, seconds = ablation(tmp_path, "--address", address)
        assert code == 2 and seconds < 2 and words in error


def test_more_than_this_machine_has(tmp_path):
    code, error, seconds = ablation(tmp_path, "--cpus-per-trial", "999")
    assert code == 2 and seconds < 2 and "999 CPUs" in error


def test_storage_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    code, error, seconds = ablation(tmp_path, "--storage", str(blocked))
    assert code == 2 and seconds < 2 and "--storage" in error and "cannot be written" in error


def folder_study(tmp_path, size="", make=lambda root: None):
    root = tmp_path / "images"
    for name in ("cat", "dog"):
        (root / "train" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(root / "train" / name / f"{number}.png")
    make(root)
    text = GOOD.replace("{name: glyphs, variants: 1}", f"{{name: folder, root: {root}{size}}}")
    return ["--study", write(tmp_path, text)]


def truncate(root):
    path = root / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:45])


DATA = {
    "no train folder": (lambda root: (root / "train").rename(root / "trian"), ["train"]),
    "empty class": (lambda root: (root / "train" / "emu").mkdir(), ["emu"]),
    "truncated image": (truncate, ["cat/3.png"]),
    "not an image": (lambda root: (root / "train" / "cat" / "x.png").write_text("<html>"), ["cat/x.png"]),
    "mixed sizes": (lambda root: Image.new("RGB", (9, 9)).save(root / "train/cat/9.png"), ["cat/9.png", "size"]),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data(tmp_path, case):
    make, words = DATA[case]
    code, error, seconds = ablation(tmp_path, *folder_study(tmp_path, make=make))
    assert code == 3 and seconds < 2.5
    for word in words:
        assert word in error, error


def test_absent_data(tmp_path):
    text = GOOD.replace("{name: glyphs, variants: 1}", f"{{name: cifar10, root: {tmp_path / 'nowhere'}}}")
    code, error, seconds = ablation(tmp_path, "--study", write(tmp_path, text))
    assert code == 3 and seconds < 2 and "download" in error
