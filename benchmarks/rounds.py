"""What a trial costs the driver, hundred by hundred, by the size of Tune's rounds: 1,000 trials of 3 epochs that only
report, two at a time, in rounds of 256 trials and in a single one, alternately. Prints CPU without the sampler.

    python benchmarks/rounds.py [repeats]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import scale
from common import ROOT

TRIALS, EVERY = 1_000, 100


def measured(size: int) -> list[float]:
    """Milliseconds of CPU time per trial, for each hundred trials."""
    with tempfile.TemporaryDirectory() as place:
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token"}
        command = [sys.executable, __file__, "--process", place, str(size)]
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
        lines = map(json.loads, (Path(place) / "progress.jsonl").read_text().splitlines())
        return [1e3 * (line["cpu"] - line["sampler"]) / EVERY for line in lines]


def main() -> None:
    if sys.argv[1:2] == ["--process"]:
        from resnetlab.ray_backend import backend

        scale.EPOCHS, scale.AT_ONCE = 3, 2
        backend.ROUND_TRIALS = int(sys.argv[3])
        scale.sweep(Path(sys.argv[2]), TRIALS, "random", 0, EVERY)
        return
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        for size in (256, TRIALS):
            found = measured(size)
            mean = sum(found) / len(found)
            print(f"rounds of {size:,}: {mean:.1f} ms a trial ({', '.join(f'{ms:.1f}' for ms in found)})", flush=True)


if __name__ == "__main__":
    main()
