"""Make a results folder with planted effects, with the real Study, Asha, plan, schema and store.

Curves rise to a plateau that the planted effects decide; nothing is trained. `make_results(place)` writes the default;
its options plant what tests need: other classes, a markup title, no confirm stage, a thousand trials.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.planning.making import make_plan
from resnetlab.planning.plan import Plan
from resnetlab.search.schedulers.asha import Asha
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import Study, build_study
from resnetlab.study.records import Phase, Status
from resnetlab.study.seeding import stream

PLANTED = {  # points of accuracy, as fractions, against the baseline
    ("kernel", 5): 0.012,
    ("blocks", 1): -0.030,
    ("blocks", 3): 0.008,
    ("shortcut", False): -0.004,
    ("head_depth", 2): 0.0,
    ("optimizer", "adamw"): 0.002,
}
SLOW = {("kernel", 5)}  # starts slowly and ends better
CLASSES = ("0", "1", "7", "A", "B", "ä", "ß", "λ", "Ж", "字", "א", "<b>&")
T0 = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def default_study(**changes: Any) -> Study:
    content: dict[str, Any] = {
        "name": "made",
        "title": "What matters in a small residual network on glyphs",
        "question": "Which of depth, kernel size, shortcut and head changes how well characters are read?",
        "dataset": {"name": "glyphs", "label": "character"},
        "baseline": {
            "blocks": 2,
            "kernel": 3,
            "width": 8,
            "downsample": 1,
            "batch_size": 64,
            "optimizer": "sgd",
            "lr": 0.05,
        },
        "factors": {
            "blocks": {"levels": [1, 2, 3]},
            "kernel": {"levels": [3, 5]},
            "shortcut": {"levels": [True, False]},
            "head_depth": {"levels": [1, 2]},
            "optimizer": {"levels": ["sgd", "adamw"]},
            "momentum": {"when": {"optimizer": "sgd"}, "low": 0.5, "high": 0.95},
            "lr": [
                {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 0.5, "log": True},
                {"when": {"optimizer": "adamw"}, "low": 3e-4, "high": 3e-2, "log": True},
            ],
        },
        "search": {"trials": 30, "epochs": 9, "grace_period": 1, "reduction_factor": 3, "audit": 0.15},
        "confirm": {"seeds": 3, "design": "one-factor"},
        "seed": 7,
    }
    return build_study(content | changes, "made")


def make_results(
    place: Path,
    study: Study | None = None,
    confirm: bool = True,
    classes: tuple[str, ...] = CLASSES,
    faults: bool = True,
    seed_sd: float = 0.003,
    test_images: int = 2000,
) -> Plan | None:
    """Write the folder `place`; returns the plan where there is a confirm stage."""
    study = study or default_study()
    folder = ResultsFolder.at(place)
    store = Store(folder, study.space.names)
    sweep = _Made(study, store, seed_sd, faults)
    sweep.explore()
    plan = None
    if confirm:
        store.flush()
        plan = make_plan(study, store.trials.values(), data_hash="0123456789abcdef", code="abc1234")
        folder.write("plan.json", _bytes(plan.content() | {"plan_hash": plan.plan_hash}))
        sweep.confirm(plan, classes, test_images)
    store.close()
    folder.write("study.json", _bytes(study.model_dump(mode="json")))
    folder.write("sweep.json", _bytes(sweep.provenance(len(classes))))
    return plan


def _bytes(content: Any) -> bytes:
    return json.dumps(content, indent=1).encode()


class _Made:
    def __init__(self, study: Study, store: Store, seed_sd: float, faults: bool):
        self.study, self.store, self.seed_sd, self.faults = study, store, seed_sd, faults
        self.rng = np.random.default_rng(study.seed)
        self.clock, self.busy, self.number = T0, 0.0, 0

    def explore(self) -> None:
        search = self.study.search
        asha = Asha(search.grace_period, search.reduction_factor, search.epochs)
        rungs = [[] for _ in range(search.trials)]
        for number in range(search.trials):
            values = self.study.baseline_values() if number == 0 else self._draw()
            audit = number > 0 and self.rng.random() < search.audit
            fault = None
            if self.faults and number % 8 == 3:
                fault = Status.FAILED if number // 8 % 2 else Status.DIVERGED
            row = self._trial(values, seed=stream(self.study.seed, "explore", number))
            self._run(row, values, Phase.AUDIT if audit else Phase.EXPLORE, asha, fault, rungs[number])

    def confirm(self, plan: Plan, classes: tuple[str, ...], images: int) -> None:
        for design_row, block, arm, config in plan.trials(self.study):
            row = self._trial(arm.values, seed=config.seed, config=config)
            row |= {"arm": arm.name, "plan_hash": plan.plan_hash, "design_row": design_row, "seed_block": block}
            lost = Status.DIVERGED if self.faults and (design_row, block) == (4, 1) else None
            self._run(row, arm.values, Phase.CONFIRM, None, lost, [])
            if lost is None:
                accuracy = self._test(row["trial_id"], row["val_accuracy"], classes, images)
                self.store.add("trials", {"trial_id": row["trial_id"], "test_accuracy": accuracy, "test_loss": 0.61})

    def _draw(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for factor in self.study.space.factors:
            index = factor.branch(values)
            if index is None:
                continue
            branch = factor.branches[index]
            if branch.levels is not None:
                values[factor.name] = branch.levels[self.rng.integers(len(branch.levels))]
            elif branch.log:
                values[factor.name] = float(np.exp(self.rng.uniform(np.log(branch.low), np.log(branch.high))))
            else:
                values[factor.name] = float(self.rng.uniform(branch.low, branch.high))
        return values

    def _trial(self, values: dict[str, Any], seed: int, config: Any = None) -> dict[str, Any]:
        config = config or self.study.config(values, seed=seed)
        blocks, kernel = values.get("blocks", 2), values.get("kernel", 3)
        row = {
            "trial_id": config.trial_id, "study": self.study.name, "number": self.number, "status": Status.RUNNING,
            "reason": "", "config": config.model_dump_json(), "seed": config.seed, "split_seed": config.split_seed,
            "epochs_run": 0, "epochs_allowed": config.epochs, "parameters": 1500 + 1200 * blocks * kernel**2,
            "trainable": 1500 + 1200 * blocks * kernel**2, "multiply_adds": 90_000 * blocks * kernel**2,
            "device": "cpu", "device_share": 1.0, "threads": 1, "host": f"node-{self.number % 2}", "restarts": 0,
            "started": self.clock, "data_hash": "0123456789abcdef", "git_revision": "abc1234",
            "versions": json.dumps({"python": "3.12.1", "torch": "2.9.1"}), 
            **dict.fromkeys(self.study.space.names), **values,
        }  # fmt: skip
        self.number += 1
        return row

    def _run(self, row: dict, values: dict, phase: Phase, asha: Asha | None, fault: Status | None, rungs: list) -> None:
        total = self.study.search.epochs
        effect = sum(size for (name, level), size in PLANTED.items() if values.get(name) == level)
        lr, middle = values.get("lr", 0.05), 3e-3 if values.get("optimizer") == "adamw" else 0.07
        final = 0.84 + effect - 0.02 * np.log10(lr / middle) ** 2 + self.rng.normal(0, self.seed_sd)
        slow = any(values.get(name) == level for name, level in SLOW)
        pace = total / (2.6 if slow else 4.0) * self.rng.lognormal(0, 0.3)
        seconds = (0.8 + 0.35 * values.get("blocks", 2) * values.get("kernel", 3) / 3) * self.rng.uniform(0.95, 1.1)
        status, reason, best = Status.COMPLETE, "reached the full budget", None
        for epoch in range(1, total + 1):
            if fault and epoch == 1 + row["number"] % 3:
                status = fault
                reason = "loss is nan (lr=0.5, optimizer=sgd)" if fault == Status.DIVERGED else "worker died: <SIGKILL>"
                break
            reach = (1 - np.exp(-epoch / pace)) / (1 - np.exp(-total / pace))
            value = float(np.clip(0.05 + (final - 0.05) * reach + (epoch < total) * self.rng.normal(0, 0.006), 0, 1))
            self._epoch(row["trial_id"], epoch, value, lr, seconds)
            best = max(value, best or 0.0)
            row |= {
                "epochs_run": epoch,
                "val_accuracy": value,
                "val_accuracy_best": best,
                "val_loss": 2.5 * (1 - value),
            }
            said = asha.report(row["trial_id"], epoch, value, exempt=phase == Phase.AUDIT) if asha else None
            if said:
                self.store.add("rungs", {"trial_id": row["trial_id"], **said.as_row()})
                if said.decision == "stop":
                    status, reason = Status.STOPPED, f"ASHA, rung {said.rung}: {value:.4f} is below {said.cutoff:.4f}"
                    break
        ran = row["epochs_run"]
        row |= {
            "phase": phase, "status": status, "reason": reason, "train_seconds": seconds * ran,
            "eval_seconds": 0.12 * seconds * ran, "setup_seconds": 0.05, "checkpoint_seconds": 0.01 * ran,
            "stop_probability": None if phase == Phase.CONFIRM else 1 - self.study.search.audit,
        }  # fmt: skip
        spent = seconds * ran * 1.14
        self.busy += spent
        self.clock += timedelta(seconds=spent / 2)
        self.store.add("trials", row | {"ended": self.clock})

    def _epoch(self, trial_id: str, epoch: int, value: float, lr: float, seconds: float) -> None:
        row = {
            "trial_id": trial_id, "epoch": epoch, "train_loss": 2.4 * (1 - value), "val_loss": 2.5 * (1 - value),
            "train_accuracy": min(1, value + 0.01), "val_accuracy": value, "lr": lr, "train_seconds": seconds,
            "eval_seconds": 0.12 * seconds, "images_per_second": 3000 / seconds, "peak_memory": 300 << 20,
        }  # fmt: skip
        self.store.add("epochs", row)

    def _test(self, trial_id: str, accuracy: float, classes: tuple[str, ...], images: int) -> float:
        """Predictions on a made test split at about `accuracy`; the first class is the hardest."""
        number = len(classes)
        labels = np.arange(images) % number
        chance = accuracy - 0.15 * (labels == 0)
        right = (np.argsort(np.argsort(self.rng.random(images))) + 0.5) / images < chance  # near exact in total
        predicted = np.where(right, labels, (labels + 1 + self.rng.integers(0, 2, images)) % number)
        columns = {"image": np.arange(images).tolist(), "label": labels.tolist(), "predicted": predicted.tolist()}
        self.store.add_all("predictions", trial_id, columns)
        rows = [
            (
                "test",
                k,
                classes[k],
                int((labels == k).sum()),
                int((predicted == k).sum()),
                int(right[labels == k].sum()),
            )
            for k in range(number)
        ]
        names = ("split", "class", "name", "support", "predicted", "correct")
        self.store.add_all("classes", trial_id, dict(zip(names, zip(*rows, strict=True), strict=True)))
        return float(right.mean())

    def provenance(self, classes: int) -> dict[str, Any]:
        wall = (self.clock - T0).total_seconds()
        return {
            "command": "python sweeps/ablation.py --study default --name made",
            "versions": {"python": "3.12.1", "torch": "2.9.1", "ray": "2.52.0", "optuna": "4.5.0"},
            "host": "node-0", "started": T0.isoformat(), "ended": self.clock.isoformat(),
            "wall_seconds": wall * 1.05, "slots": 2, "busy_seconds": self.busy,
            "reports": 400, "report_seconds": 0.2, "sampler_seconds": 3.0, "publish_seconds": 0.5,
            "data": {"hash": "0123456789abcdef", "name": "glyphs", "classes": classes, "shape": [20, 20, 1],
                     "train": 4800, "val": 533, "test": 941},
        }  # fmt: skip
