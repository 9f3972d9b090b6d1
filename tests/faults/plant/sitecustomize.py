"""Loaded by every Python process of the campaign: makes trials do what the file $RESNETLAB_PLANT says, in real workers.

    [{"when": {"kernel": 3}, "epoch": 2, "do": "hang"}, {"look": 2, "at": "before", "do": "die"}]

A fault with `look` is one of the driver: before or after it writes looks.parquet with this many looks.

`do`: hang (sleep for an hour), pause (for `seconds`), wait (as long as the file `until` is there), eat (take `bytes` of
memory and keep them), die (of `signal`, else SIGKILL), say (write `words` to stderr), raise (a RuntimeError of
`words`). Epochs count from 1; without `once: false` a fault happens once, which a file
beside the plant remembers.
The file $RESNETLAB_TRAINED has a line for each epoch that was begun or ended: trial, process, what, epoch.
"""

import json
import os
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec, spec_from_loader
from pathlib import Path

LOOP, LOOKS = "resnetlab.vision.training.loop", "resnetlab.sweep.planned_looks"


def faults(happens):
    """Do what is planted and of which `happens` is true."""
    plant = Path(os.environ["RESNETLAB_PLANT"])
    for number, fault in enumerate(json.loads(plant.read_text())):
        if not happens(fault):
            continue
        if fault.get("once", True):
            try:
                plant.with_suffix(f".{number}.done").touch(exist_ok=False)
            except FileExistsError:
                continue
        if fault["do"] == "hang":
            time.sleep(3600)
        elif fault["do"] == "pause":
            time.sleep(fault["seconds"])
        elif fault["do"] == "wait":
            while Path(fault["until"]).exists():
                time.sleep(0.05)
        elif fault["do"] == "eat":
            kept = [bytearray(1 << 24) for _ in range(fault["bytes"] >> 24)]
            time.sleep(3600 if kept else 0)
        elif fault["do"] == "die":
            os.kill(os.getpid(), fault.get("signal", 9))
            time.sleep(3600)  # it comes within moments
        elif fault["do"] == "say":
            os.write(2, f"{fault['words']}\n".encode())
        elif fault["do"] == "raise":
            raise RuntimeError(fault["words"])


def note(training, what, epoch):
    line = f"{training.config.trial_id} {os.getpid()} {what} {epoch}\n"
    with Path(os.environ["RESNETLAB_TRAINED"]).open("ab", buffering=0) as log:
        log.write(line.encode())


def epochs(loop):
    """Have the epochs of the training loop look at the plant first."""
    run_epoch = loop.Training.run_epoch

    def planted(training):
        config, epoch = training.config, training.epoch + 1

        def happens(fault):
            return fault.get("epoch") == epoch and all(getattr(config, key) == v for key, v in fault["when"].items())

        note(training, "begun", epoch)
        faults(happens)
        result = run_epoch(training)
        note(training, "ended", epoch)
        return result

    loop.Training.run_epoch = planted


def looks(planned):
    """Have the driver look at the plant before and after it writes the looks that it took."""
    write_table = planned.write_table

    def planted(folder, table, rows):
        taken = max(rows["look"].to_pylist())
        faults(lambda fault: (fault.get("look"), fault.get("at")) == (taken, "before"))
        write_table(folder, table, rows)
        faults(lambda fault: (fault.get("look"), fault.get("at")) == (taken, "after"))

    planned.write_table = planted


class Planting(MetaPathFinder, Loader):
    """Imports one module as it is, then has `plant` change it."""

    def __init__(self, target, plant):
        self.target, self.plant = target, plant

    def find_spec(self, name, path=None, target=None):
        if name != self.target:
            return None
        sys.meta_path.remove(self)
        self.real = find_spec(name)
        return spec_from_loader(name, self, origin=self.real.origin)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__file__ = self.real.origin
        self.real.loader.exec_module(module)
        self.plant(module)


if os.environ.get("RESNETLAB_PLANT"):
    sys.meta_path[:0] = [Planting(LOOP, epochs), Planting(LOOKS, looks)]
