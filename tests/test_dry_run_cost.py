"""What a dry run imports and costs, and its check of bf16."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab.driver.checks import precision
from resnetlab.errors import BadRequest
from resnetlab.study import build_study, load_study
from resnetlab.vision.training import precision as measured

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "sweeps/ablation.py"
NOT_NEEDED = {"torch", "torchvision", "sympy", "triton", "ray", "sklearn", "matplotlib"}
WATCHED = """
import atexit, json, runpy, sys
from pathlib import Path

def leave():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    Path(place).write_text(json.dumps({"loaded": loaded, "memory": 1024 * int(status["VmHWM"].split()[0])}))

place, *sys.argv = sys.argv[1:]
atexit.register(leave)
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # runs a script, and writes what it had loaded and the most memory it held, which rusage mixes with its parent's
STUDY = """
dataset: {name: folder, root: images}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 8}
arms: {a: {}, b: {kernel: 1}}
search: {epochs: 1}
confirm: {design: arms, seeds: 1}
precision: bf16
"""


@pytest.fixture
def place(tmp_path):
    """A folder with images and a study of them, in bf16."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "images/train" / name
        folder.mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "s.yaml").write_text(STUDY)
    return tmp_path


def run(place, *arguments, watched=None, **variables):
    """(code, stdout, stderr) of ablation.py in `place`; `watched`: a file for what WATCHED writes."""
    start = ["-c", WATCHED, str(watched)] if watched else []
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "RESNETLAB_CACHE": str(place / "cache"), "PYTHONPATH": paths, **variables}
    command = [sys.executable, *start, str(SCRIPT), *arguments]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


# What it costs


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory from /proc")
def test_a_dry_run_of_the_default_study_loads_no_torch_and_takes_little_memory(tmp_path):
    assert run(tmp_path, "--dry-run")[0] == 0  # makes the data
    code, out, err = run(tmp_path, "--dry-run", watched=tmp_path / "watched.json")
    assert code == 0 and "largest model: 53,799 parameters" in out and err == ""
    found = json.loads((tmp_path / "watched.json").read_text())
    assert not NOT_NEEDED & set(found["loaded"]) and found["memory"] <= 400e6


@pytest.mark.parametrize("file", sorted((ROOT / "sweeps/studies").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_networks_of_every_study_at_hand_are_sized_without_building_them(file):
    from resnetlab.driver.checks.dataset_record import starts
    from resnetlab.vision import architecture

    shapes = {"character-fonts": (20, 20, 1), "digits": (8, 8, 1), "glyphs": (20, 20, 1)}
    for config in starts(load_study(file)).values():
        assert architecture.facts(config, shapes.get(config.data.name, (32, 32, 3)), 10) is not None


# bf16


def study(**changes):
    content = {
        "name": "s",
        "dataset": {"name": "glyphs"},
        "factors": {"kernel": {"levels": [3, 5]}},
        "precision": "bf16",
    }
    return build_study(content | changes, "s.yaml")


def test_bf16_that_is_slow_is_refused_unless_the_study_insists(monkeypatch):
    monkeypatch.setattr(measured, "bf16_slowdown", lambda: 9.13)
    with pytest.raises(BadRequest, match=r"bf16 takes 9\.1 times the CPU time of fp32.*resources\.allow_slow_bf16"):
        precision.check(study())
    insisting = study(resources={"allow_slow_bf16": True})
    assert "9.1 times" in precision.check(insisting)
    assert insisting.study_hash == study().study_hash
    assert insisting.baseline_config(0).trial_id == study().baseline_config(0).trial_id


def test_bf16_that_is_not_slow_is_said_and_elsewhere_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(measured, "bf16_slowdown", lambda: 0.8)
    assert precision.check(study()).endswith("bf16 takes 0.8 times the CPU time of fp32 on this machine")
    monkeypatch.setattr(measured, "bf16_slowdown", lambda: pytest.fail("measured"))
    assert precision.check(study(precision="fp32")) == ""
    assert precision.check(study(resources={"gpus": 1})) == precision.check(study(resources={"gpus": "auto"})) == ""


def test_the_slowdown_is_a_ratio_of_times_and_leaves_the_process_as_it_was():
    import torch

    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    assert 0.1 < measured.bf16_slowdown() < 100
    assert torch.equal(state, torch.random.get_rng_state()) and threads == torch.get_num_threads()


def test_a_dry_run_refuses_slow_bf16_as_the_run_does(place):
    """A CPU whose bf16 is software: oneDNN is told to use AVX2 at most."""
    words = ("--study", "s.yaml")
    for more in (("--dry-run",), ()):
        code, _, err = run(place, *words, *more, ONEDNN_MAX_CPU_ISA="AVX2")
        assert code == 2 and "times the CPU time of fp32 on this machine" in err, err
        assert not (place / "results").exists()
    insist = ("--set", "resources.allow_slow_bf16=true")
    code, out, err = run(place, *words, "--dry-run", *insist, ONEDNN_MAX_CPU_ISA="AVX2")
    assert code == 0 and "precision: bf16 takes" in out and err == ""
