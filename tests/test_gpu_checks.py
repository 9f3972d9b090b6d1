"""The checks of tests/gpu.sh, at their smallest size on the CPU, and what the script says where there is no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
NVIDIA_SMI = """#!/bin/sh
[ "$1" = -i ] || exit 0
while :; do echo "1000, 100.0"; echo "1200, 100.0"; sleep 0.02; done
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="timeout and tee of Linux")


def script(*options, **variables):
    """tests/gpu.sh, with this interpreter; its code and what it printed."""
    done = subprocess.run(
        [ROOT / "tests/gpu.sh", *map(str, options)], env=os.environ | {"PYTHON": sys.executable} | variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=550,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so(tmp_path):
    code, said = script("--results", tmp_path / "r")
    assert code == 77 and len(said.splitlines()) == 1 and "torch sees no GPU here: nothing was tested" in said
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("options", [("--device", "tpu"), ("--fast",)])
def test_unknown_options_are_refused(options):
    code, said = script(*options)
    assert code == 2 and "allowed: " in said


@pytest.mark.long
@pytest.mark.slow
def test_all_checks_run_on_the_cpu_and_go_on_where_they_were(tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(NVIDIA_SMI)
    tool.chmod(0o755)
    results, cache = tmp_path / "results", str(tmp_path / "cache")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    code, said = script("--device", "cpu", "--results", results, PATH=path, RESNETLAB_CACHE=cache)
    assert code == 0, said
    found = json.loads((results / "gpu.json").read_text())
    parts = found["parts"]
    assert list(parts) == [
        "tests", "CPU, eager and graph", "repeats", "resuming", "accuracy", "memory", "columns", "starting", "studies",
        "ResNet-20, batch 128", "sharing", "precision",
    ]  # fmt: skip
    assert all(part["rows"] for part in parts.values()) and "failed" not in found
    rows = {row["what"]: row["median"] for part in parts.values() for row in part["rows"]}
    assert rows["tests: passed"] == rows["tests: failed"] == 0 and rows["tests: skipped"] > 0
    exact = [name for name in rows if "values that differ" in name or " from CPU" in name or "graph from eager" in name]
    assert len(exact) == 8 and all(rows[name] == 0 for name in exact)  # on a CPU all ways are one
    assert rows["nvidia-smi: memory gained"] == 200 and rows["bf16 from fp32"] < 20
    measured = {target["target"] for target in found["targets"] if target["met"] is not None}
    assert len(found["targets"]) - len(measured) == 4  # tf32, energy at most and at least, a graph's speed
    assert "nothing is known of a GPU" in (results / "gpu.txt").read_text()
    del parts["repeats"]
    (results / "gpu.json").write_text(json.dumps(found))
    assert script("--device", "cpu", "--results", results, PATH=path, RESNETLAB_CACHE=cache)[0] == 0
    again = json.loads((results / "gpu.json").read_text())["parts"]
    assert all(again[key]["ended"] == part["ended"] for key, part in parts.items())
    assert set(again) - set(parts) == {"repeats"}


def test_a_check_that_breaks_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import common

    def broken():
        raise RuntimeError("CUDA error: unknown error\nmore")

    book = common.Book("gpu", True, place=tmp_path)
    assert book.tried("one", broken) == [] and not book.met
    assert book.tried("two", lambda: [common.spread("x", "s", [1.0])])
    book.finish()
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found["parts"]) == ["two"] and "RuntimeError: CUDA error" in found["failed"]["one"]
    assert "RuntimeError" in capsys.readouterr().err
    sys.modules.pop("common")
