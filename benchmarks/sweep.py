"""The same 24 trials with the same budgets, start to end, as many at once as there are cores:

- ours: proposes, stops early by ASHA, records tables; its trials and the epochs that each ran are what the others run;
- Ray Tune as its CIFAR tutorial writes it: a function trainable, a DataLoader with workers, a checkpoint an epoch;
- Optuna: as many processes as cores on one journal, its own pruner asked after every epoch, the same plain loop;
- Optuna and Ray Tune with our training loop;
- Syne Tune with the plain loop, where `make bench` could install it.

The others are told each trial's budget, so that no luck of early stopping is in the times. One thread a trial.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import ROOT, Book, Row, code_hash, options, ratios, spread
from processes import Watched

CORES = os.cpu_count() or 1
DATA = {"name": "glyphs", "variants": 2}
SIZES = {"trials": 24, "epochs": 9}
SYNE = ROOT / "build" / "syne-tune"  # where `make bench` puts it, away from what is measured


def study(trials: int, epochs: int) -> Any:
    from resnetlab.study import build_study

    return build_study(
        {
            "name": "sweep",
            "dataset": DATA,
            "baseline": {"blocks": 2, "width": 8, "downsample": 2, "batch_size": 64, "rotation": 10.0, "crop": 1},
            "factors": {
                "blocks": {"levels": [2, 3]},
                "kernel": {"levels": [3, 5]},
                "head_depth": {"levels": [1, 2]},
                "lr": {"low": 0.03, "high": 1.0, "log": True},
                "momentum": {"low": 0.5, "high": 0.95},
            },
            "search": {"trials": trials, "epochs": epochs, "grace_period": 1, "reduction_factor": 3, "audit": 0.0},
            "confirm": {"design": "none"},
        },
        "benchmark",
    )


def ours(place: Path, trials: int, epochs: int) -> None:
    from resnetlab.cli.exit_codes import report_errors
    from resnetlab.driver.options import Options
    from resnetlab.driver.run import run_study

    with report_errors():  # as scripts run it
        run_study(study(trials, epochs), Options(storage=str(place), cache=place / "cache"))


def plan_of(place: Path) -> list[dict[str, Any]]:
    """Config, epochs and accuracies of each trial of our sweep."""
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.storage.store import read_table

    folder = ResultsFolder.at(place / "sweep")
    epochs, trials = read_table(folder, "epochs"), read_table(folder, "trials")
    assert epochs is not None and trials is not None
    values: dict[str, list[float]] = {}
    for row in epochs.select(["trial_id", "val_accuracy"]).to_pylist():
        values.setdefault(row["trial_id"], []).append(row["val_accuracy"])
    return [
        {"config": json.loads(row["config"]), "epochs": row["epochs_run"], "values": values[row["trial_id"]]}
        for row in trials.select(["trial_id", "config", "epochs_run"]).to_pylist()
    ]


# What one trial is, the plain way and ours: accuracies on the validation split, one an epoch


def plain_trial(trial: dict[str, Any], place: Path) -> Iterator[tuple[float, Any]]:
    """As tutorials have it: data loaded, transforms for each image, a DataLoader with 2 workers. Yields the accuracy
    after each epoch, and what a checkpoint would hold."""
    import torch
    from torch import nn
    from torchvision import transforms
    from workloads import PilImages

    from resnetlab.study.trial_config import TrialConfig
    from resnetlab.vision.data import prepare
    from resnetlab.vision.models import build

    config = TrialConfig.model_validate(trial["config"])
    data = prepare(config.data, place / "cache")
    mean, std = data.statistics(config.split_seed)
    last = [transforms.ToTensor(), transforms.Normalize(mean.tolist(), std.tolist())]
    moves = [transforms.RandomCrop(data.shape[:2], padding=1), transforms.RandomRotation(10)]
    loaders = {}
    for split, steps in (("train", [*moves, *last]), ("val", last)):
        rows = data.split(split, config.split_seed)
        images = PilImages(data.images[rows], data.labels[rows], transforms.Compose(steps))
        loaders[split] = torch.utils.data.DataLoader(
            images, batch_size=config.batch_size, shuffle=split == "train", num_workers=2,
            multiprocessing_context="fork",  # in processes that were spawned themselves it would be spawn
        )  # fmt: skip
    model = build(config, data.shape, data.n_classes)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    for _ in range(trial["epochs"]):
        model.train()
        running = 0.0
        for inputs, labels in loaders["train"]:
            optimizer.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
        model.eval()
        correct, total = 0, 0
        with torch.no_grad():
            for inputs, labels in loaders["val"]:
                correct += (model(inputs).argmax(1) == labels).sum().item()
                total += len(labels)
        yield correct / total, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def our_trial(trial: dict[str, Any], place: Path) -> Iterator[tuple[float, Any]]:
    """Our training loop, called directly."""
    from resnetlab.study.trial_config import TrialConfig
    from resnetlab.vision.data import prepare
    from resnetlab.vision.training.loop import Training

    config = TrialConfig.model_validate(trial["config"])
    training = Training(config, prepare(config.data, place / "cache"))
    for _ in range(trial["epochs"]):
        yield training.run_epoch().val_accuracy, training


TRIALS: dict[str, Callable[[dict[str, Any], Path], Iterator[tuple[float, Any]]]] = {
    "plain": plain_trial, "ours": our_trial,
}  # fmt: skip


def ray_tune(place: Path, kind: str, plan: list[dict[str, Any]]) -> list[list[float]]:
    import ray
    from ray import tune

    def train(config: dict[str, Any]) -> None:
        import torch

        for value, state in TRIALS[kind](config["trial"], place):
            if kind == "plain":
                with tempfile.TemporaryDirectory() as folder:
                    torch.save(state, Path(folder) / "checkpoint.pt")
                    tune.report({"accuracy": value}, checkpoint=tune.Checkpoint.from_directory(folder))
            else:
                tune.report({"accuracy": value})

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"trial": tune.grid_search(plan)},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        run_config=tune.RunConfig(storage_path=str(place / f"ray-{kind}-{time.time_ns()}"), verbose=0),
    )
    results = tuner.fit()
    found = [list(result.metrics_dataframe["accuracy"]) for result in results]
    ray.shutdown()
    return found


def optuna_processes(place: Path, kind: str, plan: list[dict[str, Any]]) -> list[list[float]]:
    """Optuna: this process creates the study, and worker processes take trials from it."""
    import multiprocessing

    journal = str(place / f"optuna-{kind}-{time.time_ns()}.log")
    _optuna_study(journal)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=optuna_worker, args=(journal, kind, place, plan)) for _ in range(CORES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = sorted(_optuna_study(journal).trials, key=lambda trial: trial.number)
    return [[value for _, value in sorted(trial.intermediate_values.items())] for trial in trials[: len(plan)]]


def _optuna_study(journal: str) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(journal)), study_name="sweep", direction="maximize",
        load_if_exists=True, pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )  # fmt: skip


def optuna_worker(journal: str, kind: str, place: Path, plan: list[dict[str, Any]]) -> None:
    import torch

    torch.set_num_threads(1)
    held = _optuna_study(journal)
    while (trial := held.ask()).number < len(plan):
        asked = plan[trial.number]
        trial.suggest_float("lr", 0.03, 1.0, log=True)  # the sampler has its work too; the values are the plan's
        value = 0.0
        for epoch, (value, _) in enumerate(TRIALS[kind](asked, place), start=1):
            trial.report(value, epoch)
            trial.should_prune()
        held.tell(trial, value)


def syne_tune(place: Path, kind: str, plan: list[dict[str, Any]]) -> list[list[float]]:
    """Syne Tune: a process for each trial on its local backend, as in its examples."""
    os.environ["SYNETUNE_FOLDER"] = str(place / "syne-tune")
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import choice
    from syne_tune.experiments import load_experiment
    from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler

    (place / "plan.json").write_text(json.dumps(plan))
    space = {"number": choice(list(range(len(plan)))), "place": str(place), "epochs": 9}
    script = place / "syne_trial.py"
    script.write_text(
        "import argparse, json, sys\nfrom pathlib import Path\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'benchmarks')!r}]\n"
        "from sweep import plain_trial\nfrom syne_tune import Reporter\n"
        "parser = argparse.ArgumentParser()\n"
        "for name in ('--number', '--place', '--epochs'):\n    parser.add_argument(name)\n"
        "asked, _ = parser.parse_known_args()\nplace = Path(asked.place)\n"
        "trial = json.loads((place / 'plan.json').read_text())[int(asked.number)]\nreport = Reporter()\n"
        "for epoch, (value, _) in enumerate(plain_trial(trial, place), start=1):\n"
        "    report(epoch=epoch, accuracy=value)\n"
    )
    points = [{"number": number} for number in range(len(plan))]
    scheduler = SingleObjectiveScheduler(
        space, metric="accuracy", do_minimize=False, searcher="random_search",
        searcher_kwargs={"points_to_evaluate": points}, random_seed=0,
    )  # fmt: skip
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=str(script)), scheduler=scheduler, n_workers=CORES,
        stop_criterion=StoppingCriterion(max_num_trials_finished=len(plan)), print_update_interval=1e9,
    )  # fmt: skip
    tuner.run()
    frame = load_experiment(tuner.name).results
    found = {trial: part.sort_values("epoch") for trial, part in frame.groupby("trial_id")}  # in the order of `points`
    return [list(found[number]["accuracy"]) for number in range(len(plan))]


SYSTEMS: dict[str, Callable[[Path, str, list[dict[str, Any]]], list[list[float]]]] = {
    "ray": ray_tune, "optuna": optuna_processes, "syne": syne_tune,
}  # fmt: skip
ARMS = {  # name: system, kind of loop, runs
    "ours": ("ours", "ours", 2),
    "Optuna, our loop": ("optuna", "ours", 2),
    "Ray Tune, our loop": ("ray", "ours", 1),
    "Ray Tune, tutorial": ("ray", "plain", 1),
    "Optuna, plain loop": ("optuna", "plain", 1),
    "Syne Tune, plain loop": ("syne", "plain", 1),
}


def run_arm(system: str, kind: str, place: Path, sizes: dict[str, int]) -> dict[str, Any]:
    """Measure one sweep in processes of its own, from the start of Python to its end."""
    paths = [str(ROOT), str(ROOT / "benchmarks"), *[str(SYNE)] * (system == "syne")]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    env |= {"RAY_worker_niceness": "0"}  # Ray's 15 would yield to whatever else runs, which the others do not
    request = json.dumps({"system": system, "kind": kind, "place": str(place), "sizes": sizes})
    began = time.time_ns()
    done = Watched(
        [sys.executable, str(Path(__file__).resolve()), "--process", request], env, place
    )  # Syne Tune leaves files where it runs
    return {"wall": done.wall, "cpu": done.cpu, "memory": done.memory, "began": began}


def process(request: dict[str, Any]) -> None:
    place, sizes = Path(request["place"]), request["sizes"]
    if request["system"] == "ours":
        ours(place, sizes["trials"], sizes["epochs"])
        return
    plan = json.loads((place / "plan.json").read_text())
    values = SYSTEMS[request["system"]](place, request["kind"], plan)
    (place / "values.json").write_text(json.dumps(values))


def rows_of(book: Book, base: Path, sizes: dict[str, int], quick: bool) -> dict[str, dict[str, Any]]:
    """Each arm's runs, a part for each turn; the first sweep of ours says what the others run."""
    place = base / "work"
    place.mkdir(parents=True, exist_ok=True)
    runs: dict[str, dict[str, Any]] = {}
    for turn in range(1 if quick else 2):
        for arm, (system, kind, count) in ARMS.items():
            if turn < count and (system != "syne" or SYNE.is_dir()):
                rows = book.part(f"{arm}, run {turn + 1}", lambda s=system, k=kind: _measured(s, k, place, sizes))
                runs.setdefault(arm, {})[turn] = rows[0]["answer"]
    return runs


def _measured(system: str, kind: str, place: Path, sizes: dict[str, int]) -> list[Row]:
    if not (place / "plan.json").exists():  # ours first, whatever was done before an interruption
        from resnetlab.driver.checks.dataset_record import starts
        from resnetlab.vision.data import prepare

        prepare(next(iter(starts(study(**sizes)).values())).data, place / "cache")  # before anybody's time counts
        answer = _of_ours(place, sizes)
        (place / "plan.json").write_text(json.dumps(plan_of(place)))
        if system == "ours":
            return [spread(f"{system} {kind}", "s", [answer["wall"]], answer=answer)]
    if system == "ours":
        target = place / f"ours-{time.time_ns()}"
        target.mkdir()
        (target / "cache").symlink_to(place / "cache")
        answer = _of_ours(target, sizes)
    else:
        answer = run_arm(system, kind, place, sizes)
        values = json.loads((place / "values.json").read_text())
        answer |= {"epochs": sum(map(len, values)), "first": _mean([trial[0] for trial in values])}
        answer["full"] = _mean([trial[-1] for trial in values if len(trial) == sizes["epochs"]])
        plan = json.loads((place / "plan.json").read_text())
        answer["full_ours"] = _mean([t["values"][-1] for t in plan if t["epochs"] == sizes["epochs"]])
    return [spread(f"{system} {kind}", "s", [answer["wall"]], answer=answer)]


def _of_ours(target: Path, sizes: dict[str, int]) -> dict[str, Any]:
    answer, plan = run_arm("ours", "ours", target, sizes), plan_of(target)
    return answer | {"epochs": sum(trial["epochs"] for trial in plan), "first": _mean([t["values"][0] for t in plan])}


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def main() -> None:
    chosen = options(__doc__)
    book = Book("sweep", chosen.quick, chosen.again)
    sizes = {"trials": 4, "epochs": 3} if chosen.quick else SIZES
    base = Path(tempfile.gettempdir()) / f"resnetlab-bench-sweep-{code_hash(book.name)}{'-quick' * chosen.quick}"
    runs = rows_of(book, base, sizes, chosen.quick)
    rows: dict[str, Row] = {}
    for arm, turns in runs.items():
        answers = list(turns.values())
        per_epoch = [answer["wall"] / answer["epochs"] for answer in answers]
        made = [
            spread(f"{arm}: wall time", "s", [answer["wall"] for answer in answers]),
            spread(f"{arm}: wall time an epoch", "s", per_epoch),
            spread(f"{arm}: CPU time", "s", [answer["cpu"] for answer in answers]),
            spread(f"{arm}: memory at most", "MiB", [answer["memory"] for answer in answers]),
            spread(f"{arm}: epochs", "", [answer["epochs"] for answer in answers]),
            spread(f"{arm}: trials", "/min", [60 * sizes["trials"] / answer["wall"] for answer in answers]),
            spread(f"{arm}: accuracy after the first epoch, mean of all trials", "%",
                   [100 * answer["first"] for answer in answers]),
        ]  # fmt: skip
        if "full" in answers[0]:
            text = f"{arm}: accuracy at the full budget less ours of the same trials"
            made.append(spread(text, "points", [100 * (answer["full"] - answer["full_ours"]) for answer in answers]))
        rows |= {row["what"]: row for row in made}
    for arm, limit in (("Ray Tune, tutorial", 3.0), ("Optuna, our loop", 1.0), ("Ray Tune, our loop", 1.0)):
        if arm in runs:
            shared = sorted(set(runs["ours"]) & set(runs[arm]))
            both = [
                [runs[name][turn]["wall"] / runs[name][turn]["epochs"] for turn in shared] for name in (arm, "ours")
            ]
            row = spread(f"{arm} over ours, wall time an epoch", "×", ratios(*both))
            rows[row["what"]] = row
            words = "at least 3 times faster than" if limit > 1 else "at least as fast as"
            book.target(f"whole sweep {words} {arm}", row, limit, at_most=False)
    book.summary(list(rows.values()))
    book.finish()
    shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        process(json.loads(sys.argv[2]))
    else:
        main()
