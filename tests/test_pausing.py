"""Two sweeps on one real cluster of two CPUs: they share it, and pause, go on and stop as they are asked to."""

import json
import subprocess
import sys

import pytest
from faults.lab import Cluster, Lab

LONG = 300  # seconds: the machine may be busy with other tests
STUDY = """
dataset: {name: glyphs, variants: 2, limit: 600}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 8, lr: 0.02}
arms:
  kernel-1: {kernel: 1}
  kernel-3: {kernel: 3}
search: {epochs: 6}
confirm: {design: arms, seeds: 3}
"""
ROWS = 2 * 3 * 6


def told(lab, name, what):
    """What `resnetlab WHAT` prints of a sweep's folder."""
    words = [sys.executable, "-m", "resnetlab", *what.split(), lab.folder(name).place]
    done = subprocess.run(words, env=lab.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(lab, name):
    return lab.folder(name).read_json("sweep.json") or {}


@pytest.mark.long
@pytest.mark.slow
def test_sweeps_share_a_cluster_and_do_as_they_are_asked(tmp_path):
    lab = Lab(tmp_path, STUDY)
    cluster = Cluster(lab, cpus=2)
    lab.address, hold = cluster.address, tmp_path / "hold"
    try:
        hold.touch()
        wait = {"do": "wait", "until": str(hold), "once": False}
        lab.plant(
            {"when": {}, "epoch": 2, **wait},
            *({"when": {}, "epoch": n, "do": "pause", "seconds": 0.5, "once": False} for n in (3, 4, 5, 6)),
        )

        # The first takes both CPUs. The second says what it waits for, and who holds it.
        first = lab.start("first")
        lab.wait(lambda: len(lab.in_epoch(2)) == 2, LONG)
        second = lab.start("second")
        holder = f"(pid {first.process.pid}) runs 2 trials; the share of this one is 1 of 2"
        lab.wait(lambda: record(lab, "second").get("shared"), LONG)
        assert record(lab, "second")["shared"].startswith("sweep faults on host ")
        assert record(lab, "second")["shared"].endswith(holder)
        shown = json.loads(told(lab, "second", "status --json"))
        assert shown["shared"].endswith(holder) and shown["epochs"] == 0

        # One of the first's trials gives way after its epoch.
        hold.unlink()
        lab.wait(lambda: lab.epochs("second"), LONG)
        assert first.process.poll() is None and 0 < len(lab.epochs("first")) < ROWS

        # Paused, it leaves everything to the other, and trains nothing.
        assert f"(pid {first.process.pid}) to pause" in told(lab, "first", "pause")
        lab.wait(lambda: record(lab, "first").get("paused"), LONG)
        epochs = sorted(lab.epochs("first"))
        assert "paused on" in told(lab, "first", "status") and " resume " in told(lab, "first", "status")
        assert second.finish(LONG).code == 0 and len(lab.epochs("second")) == ROWS
        assert sorted(lab.epochs("first")) == epochs and first.process.poll() is None and not lab.workers()

        # It goes on; stopped, it ends as with Ctrl-C, with its report, and the same command continues it.
        told(lab, "first", "resume")
        lab.wait(lambda: len(lab.epochs("first")) > len(epochs), LONG)
        told(lab, "first", "stop")
        ended = first.finish(LONG).told(130, "interrupted by resnetlab stop", "continue with: ")
        assert "report: " in ended.out and (tmp_path / "first/faults/report.html").exists()
        assert {row["status"] for row in lab.trials("first")} <= {"complete", "interrupted"}
        assert lab.start("first").finish(LONG).code == 0
        lab.same("first", lab.hash("second"), ROWS)
        assert record(lab, "first")["sessions"][0]["paused_seconds"] > 0
    finally:
        cluster.stop()
        lab.end()
