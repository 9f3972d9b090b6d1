"""The sweep as a state machine, driven by a fake trainer: tasks, records, stopping, plan, continuation."""

import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest

from resnetlab.analysis.confirm.power_preview import replicates
from resnetlab.errors import BadRequest, FolderRefused, TrialsFailed
from resnetlab.experiment.messages import Ending, Report
from resnetlab.experiment.printed import MOST, Printed, kept
from resnetlab.planning.making import make_plan
from resnetlab.planning.plan import asked
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, read_table
from resnetlab.study import build_study
from resnetlab.study.records import EpochRecord, Phase, Status, TestResult
from resnetlab.sweep.crashes import Crash
from resnetlab.sweep.plan_store import read_plan
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import data_key, one_dataset
from resnetlab.sweep.trial_texts import PRINTED_BYTES

FACTS = {"git_revision": "g", "versions": "{}"}
FACTORS = {
    "blocks": {"levels": [2, 3]},
    "kernel": {"levels": [3, 5]},
    "optimizer": {"levels": ["sgd", "adamw"]},
    "lr": [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 0.5, "log": True},
        {"when": {"optimizer": "adamw"}, "low": 3e-4, "high": 3e-2, "log": True},
    ],
}


def study(confirm=None, **search):
    return build_study(
        {
            "name": "s",
            "dataset": {"name": "glyphs"},
            "factors": FACTORS,
            "search": {"trials": 12, "epochs": 9, "audit": 0.2, **search},
            "confirm": {"seeds": 2, **(confirm or {})},
        },
        "s.yaml",
    )


class Trainer:
    """Stands for the workers: keeps each trial's epochs as its checkpoint would."""

    def __init__(self, broken=lambda config: False):
        self.epochs: dict[str, list[EpochRecord]] = {}
        self.broken = broken

    def step(self, task, reported):
        """The report after one more epoch; `reported` epochs were sent before by this incarnation."""
        config = task.config
        rng = random.Random(config.seed)
        done = self.epochs.setdefault(task.trial_id, [])
        if self.broken(config):
            return Report(ending=Ending(Status.DIVERGED, "loss is nan"))
        if len(done) < config.epochs:
            level = 0.6 + 0.05 * (config.blocks == 3) + 0.02 * rng.random()
            value = level * (1 - 0.8 ** (len(done) + 1))
            fill = dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "lr", "images_per_second"), 0.5)
            row = {"epoch": len(done) + 1, "val_accuracy": value, "train_seconds": 1.0, "eval_seconds": 0.1}
            done.append(EpochRecord(**fill, **row, peak_memory=1))
        test = None
        if len(done) == config.epochs and task.test:
            labels = np.arange(6) % 2
            test = TestResult(done[-1].val_accuracy, 1.0, labels, labels, np.arange(6))
        return Report(tuple(done[reported:]), {"parameters": 10}, test=test)


def drive(sweep, trainer, slots=2, steps=None, rng=None):
    """Run the sweep with `slots` workers for at most `steps` epochs; True when it finished."""
    rng = rng or random.Random(0)
    working: list = []
    while True:
        while len(working) < slots and (task := sweep.next()) is not None:
            working.append([task, 0])
        if not working:
            return sweep.finished
        if steps is not None:
            steps -= 1
            if steps < 0:
                return False
        job = rng.choice(working)
        report = trainer.step(job[0], job[1])
        job[1] += len(report.epochs)
        if not sweep.report(job[0].trial_id, report):
            working.remove(job)


def start(path, **kwargs):
    s = study(**kwargs)
    store = Store(ResultsFolder.at(path), s.space.names)
    return Sweep(s, store, FACTS, one_dataset(s, "d", ["a", "b"]))


def tables(path):
    folder = ResultsFolder.at(path)
    drop = ["started", "ended", "restarts"]
    found = {name: read_table(folder, name) for name in ("trials", "epochs", "rungs", "classes", "predictions")}
    return {name: table.drop_columns([c for c in drop if c in table.column_names]) for name, table in found.items()}


def test_a_sweep_explores_plans_and_confirms(tmp_path):
    sweep = start(tmp_path)
    assert drive(sweep, Trainer())
    sweep.store.close()
    trials = read_table(ResultsFolder.at(tmp_path), "trials").to_pylist()
    explore = [t for t in trials if t["phase"] in (Phase.EXPLORE, Phase.AUDIT)]
    confirm = [t for t in trials if t["phase"] == Phase.CONFIRM]
    assert len(explore) == 12 and explore[0]["blocks"] == 3 and explore[0]["lr"] == 0.1
    assert {t["status"] for t in explore} == {"complete", "stopped"}
    assert all(t["test_accuracy"] is None for t in explore)
    assert len(confirm) == 2 * (1 + 3) and all(t["status"] == "complete" for t in confirm)
    assert all(t["epochs_run"] == 9 and t["test_accuracy"] > 0 for t in confirm)
    assert {t["plan_hash"] for t in confirm} == {sweep.plan.plan_hash}
    for block in (0, 1):
        assert len({t["seed"] for t in confirm if t["seed_block"] == block}) == 1
    assert len({t["seed"] for t in trials}) == len(explore) + 2
    audits = [t for t in explore if t["phase"] == Phase.AUDIT]
    assert audits and all(t["status"] == "complete" for t in audits)


def test_rung_rows_explain_every_stop(tmp_path):
    sweep = start(tmp_path)
    drive(sweep, Trainer())
    rungs = sweep.store.read("rungs").to_pylist()
    for trial_id, row in sweep.store.trials.items():
        mine = [r for r in rungs if r["trial_id"] == trial_id]
        stops = [r for r in mine if r["decision"] == "stop"]
        assert len(stops) == (row["status"] == "stopped")
        if stops:
            assert stops[0]["value"] < stops[0]["cutoff"] and stops[0]["epoch"] == row["epochs_run"]
        assert (mine == []) == (row["phase"] == Phase.CONFIRM)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_the_continued_sweep_leaves_the_same_tables(tmp_path, seed):
    straight = start(tmp_path / "straight")
    drive(straight, Trainer(), slots=1)
    straight.store.close()
    rng = random.Random(seed)
    trainer = Trainer()
    kills = 0
    while True:
        sweep = start(tmp_path / "killed")
        if drive(sweep, trainer, slots=1, steps=rng.randrange(1, 25)):
            break
        sweep.store.lease.release()  # as the death of its process would; nothing is flushed or published
        kills += 1
    sweep.store.close()
    assert kills > 3
    expected, found = tables(tmp_path / "straight"), tables(tmp_path / "killed")
    for name in expected:
        assert found[name].equals(expected[name]), name


def test_a_crash_between_checkpoint_and_row_loses_no_epoch(tmp_path):
    trainer = Trainer()
    sweep = start(tmp_path)
    task = sweep.next()
    sweep.report(task.trial_id, trainer.step(task, 0))
    sweep.store.flush()
    trainer.step(task, 1)  # trained and checkpointed, but its driver died before the row
    sweep.store.lease.release()
    again = start(tmp_path)
    same = again.next()
    assert same.trial_id == task.trial_id
    again.report(task.trial_id, trainer.step(same, 0))
    assert again.store.read("epochs")["epoch"].to_pylist() == [1]
    again.store.flush()
    assert again.store.read("epochs")["epoch"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(("status", "retries"), [(Status.FAILED, 3), (Status.OUT_OF_MEMORY, 1)])
def test_a_trial_whose_process_dies_is_run_again_until_it_died_often(tmp_path, status, retries):
    sweep, trainer = start(tmp_path), Trainer()
    task = sweep.next()
    sweep.died(task.trial_id, "why", status)
    assert sweep.next().trial_id == task.trial_id
    sweep.report(task.trial_id, trainer.step(task, 0))  # an epoch: what came before no longer counts
    for _ in range(retries):
        sweep.died(task.trial_id, "why", status)
        assert sweep.next().trial_id == task.trial_id
    sweep.died(task.trial_id, "why", status)
    row = sweep.store.trials[task.trial_id]
    assert row["status"] == status and row["epochs_run"] == 1
    assert row["reason"] == f"its process died {retries + 1} times: why"


def test_a_signal_at_the_same_place_ends_a_trial_and_deaths_of_other_kinds_do_not_count(tmp_path):
    sweep, trainer = start(tmp_path), Trainer()
    crash = Crash("SIGSEGV", log=("Fatal Python error: Segmentation fault", '  File "a.py", line 3 in f'))
    task = sweep.next()
    for _ in range(3):
        sweep.died(task.trial_id, "its node is lost")
        assert sweep.next().trial_id == task.trial_id
    sweep.crashed(task.trial_id, crash)
    assert sweep.next().trial_id == task.trial_id
    sweep.report(task.trial_id, trainer.step(task, 0))
    sweep.crashed(task.trial_id, crash)  # in the next epoch: another place
    assert sweep.next().trial_id == task.trial_id
    sweep.report(task.trial_id, replace(trainer.step(task, 0), epochs=(trainer.epochs[task.trial_id][0],)))
    sweep.crashed(task.trial_id, crash)  # an epoch repeated from an old checkpoint is no way on
    row = sweep.store.trials[task.trial_id]
    assert row["status"] == "failed" and row["epochs_run"] == 1
    assert row["reason"].startswith(
        "its process died 2 times at the same place: killed by SIGSEGV (segmentation fault)"
    )
    for words in ("in epoch 2", "model resnet", "Segmentation fault | File", "other versions of torch"):
        assert words in row["reason"], row["reason"]
    kept = (tmp_path / "errors" / f"{task.trial_id}.txt").read_text()
    assert 'File "a.py", line 3 in f' in kept and "settings: model resnet, batch_size 128" in kept


def test_a_checkpoint_that_comes_after_the_end_of_its_trial_is_deleted(tmp_path):
    """A worker that is asked to leave writes what it has, and does not know yet that its trial was stopped."""
    sweep, trainer = start(tmp_path, stopping=False), Trainer()
    ended, runs = sweep.next(), sweep.next()
    assert all(sweep.report(task.trial_id, trainer.step(task, 0)) for task in (ended, runs))
    sweep.ended(ended.trial_id, Status.STOPPED, "asha at epoch 1")
    for task in (ended, runs):
        sweep.store.folder.write(f"checkpoints/{task.trial_id}.1.pt", b"late")
    sweep.tidy()
    assert sweep.store.folder.names("checkpoints") == [f"{runs.trial_id}.1.pt"]


def test_epochs_that_a_checkpoint_had_are_no_way_on(tmp_path):
    """The first death comes before any report: which epochs were done is known from the checkpoint alone."""
    sweep, trainer = start(tmp_path, stopping=False), Trainer()
    task = sweep.next()
    sweep.crashed(task.trial_id, Crash("SIGSEGV"))
    assert sweep.next().trial_id == task.trial_id
    assert sweep.report(task.trial_id, replace(trainer.step(task, 0), restarted=True, resumed=1))
    sweep.crashed(task.trial_id, Crash("SIGSEGV"))
    row = sweep.store.trials[task.trial_id]
    assert (row["status"], row["epochs_run"], row["restarts"]) == ("failed", 1, 1)
    assert "died 2 times at the same place" in row["reason"] and "in epoch 2" in row["reason"]


def test_what_a_trial_prints_is_kept_report_after_report_and_its_last_part_where_it_is_long(tmp_path):
    sweep, trainer = start(tmp_path), Trainer()
    task = sweep.next()
    file = tmp_path / "printed" / f"{task.trial_id}.txt"
    sweep.report(task.trial_id, trainer.step(task, 0))
    assert not file.exists()
    for number, text in enumerate(("one\n", "zwei: ä\n", "x" * PRINTED_BYTES), start=1):
        sweep.report(task.trial_id, replace(trainer.step(task, number), printed=text))
        if number == 2:
            assert file.read_text() == "one\nzwei: ä\n"
    assert file.read_bytes() == b"x" * PRINTED_BYTES


def test_what_python_code_prints_is_kept_and_goes_where_it_went_before(capsys):
    printed = Printed()
    with kept(printed):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        sys.stdout.writelines(["a\n", "b\n"])
        sys.stdout.flush()
    print("after")
    assert printed.take() == "to stdout\nto stderr\na\nb\n" and printed.take() == ""
    assert capsys.readouterr() == ("to stdout\na\nb\nafter\n", "to stderr\n")
    for _ in range(5):
        printed.add("y" * (MOST - 1) + "\n")
    text = printed.take()
    assert len(text) == MOST and text.startswith("…\ny") and text.endswith("y\n")


def test_failed_trials_are_run_again_when_asked_with_what_befell_them_kept(tmp_path):
    def fails(config):
        return config.kernel == 5 and config.blocks == 2

    class Failing(Trainer):
        def step(self, task, reported):
            if fails(task.config):
                return Report(ending=Ending(Status.FAILED, "why", "where"))
            return super().step(task, reported)

    def at(stage, retry=False):
        s = study(sampler="tpe")
        store = Store(ResultsFolder.at(tmp_path), s.space.names)
        return Sweep(s, store, FACTS, one_dataset(s, "d", ["a", "b"]), stage, retry=retry)

    sweep = at("explore")
    assert drive(sweep, Failing())
    lost = [t for t in sweep.store.trials.values() if t["status"] == "failed"]
    whole = {t["trial_id"]: t for t in sweep.store.trials.values() if t["status"] != "failed"}
    assert lost and all((tmp_path / "errors" / f"{t['trial_id']}.txt").exists() for t in lost)
    sweep.store.close()
    sweep = at("explore")
    assert not sweep._again and drive(sweep, Trainer())  # a sweep that is continued leaves them as they are
    sweep.store.close()
    sweep = at("explore", retry=True)
    assert drive(sweep, Trainer())
    for row in lost:
        now = sweep.store.trials[row["trial_id"]]
        assert now["status"] in ("complete", "stopped") and now["restarts"] == 1
        assert now["reason"].endswith("run again after it ended as failed: why")
    assert all(sweep.store.trials[trial_id] == row for trial_id, row in whole.items())
    assert len(sweep.store.trials) == 12
    sweep.store.close()


def test_what_failed_before_the_plan_stays_and_what_failed_of_the_plan_is_run_again(tmp_path):
    class Failing(Trainer):
        def step(self, task, reported):
            if task.config.optimizer == "adamw" and (task.test or task.config.kernel == 3):
                return Report(ending=Ending(Status.OUT_OF_MEMORY, "why"))
            return super().step(task, reported)

    sweep = start(tmp_path)
    assert drive(sweep, Failing())
    sweep.store.close()
    lost = {t["trial_id"]: t for t in sweep.store.trials.values() if t["status"] == "out_of_memory"}
    early = [trial_id for trial_id, row in lost.items() if row["phase"] != "confirm"]
    assert early and len(early) < len(lost)
    s = study()
    sweep = Sweep(
        s, Store(ResultsFolder.at(tmp_path), s.space.names), FACTS, one_dataset(s, "d", ["a", "b"]), retry=True
    )
    assert any("before the plan" in line for line in sweep.notes)
    plan = sweep.plan.plan_hash
    assert drive(sweep, Trainer()) and sweep.plan.plan_hash == plan
    for trial_id, row in lost.items():
        assert sweep.store.trials[trial_id]["status"] == ("out_of_memory" if trial_id in early else "complete"), row
    sweep.store.close()


def test_diverged_trials_are_rows_and_never_the_incumbent(tmp_path):
    sweep = start(tmp_path)
    assert drive(sweep, Trainer(broken=lambda config: config.kernel == 5))
    diverged = [t for t in sweep.store.trials.values() if t["status"] == Status.DIVERGED]
    assert diverged and all(t["reason"] == "loss is nan" for t in diverged)
    assert sweep.plan.incumbent["kernel"] == 3


def test_where_every_trial_fails_there_is_no_plan(tmp_path):
    sweep = start(tmp_path)
    assert drive(sweep, Trainer(broken=lambda config: True))
    assert isinstance(sweep.error, TrialsFailed) and sweep.plan is None


def test_swapping_the_optimizer_brings_its_own_learning_rate(tmp_path):
    sweep = start(tmp_path)
    drive(sweep, Trainer())
    incumbent, other = sweep.plan.incumbent, {"sgd": "adamw", "adamw": "sgd"}[sweep.plan.incumbent["optimizer"]]
    (arm,) = [arm for arm in sweep.plan.arms if arm.changed == {"optimizer": other}]
    assert arm.companions == {"lr": arm.values["lr"]}
    assert sweep.study.space.problem(arm.values) is None
    assert sweep.study.space.problem(incumbent) is None


def test_a_plan_that_was_changed_is_refused(tmp_path):
    sweep = start(tmp_path)
    drive(sweep, Trainer())
    sweep.store.close()
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"delta": 9.0}))
    with pytest.raises(FolderRefused, match=r"plan\.json: changed after it was made"):
        start(tmp_path)


def test_a_damaged_plan_is_refused_with_the_key_and_the_rule(tmp_path):
    content = json.dumps({"study": "s", "seeds": "many", "delta": 0.5, "plan_hash": "0"})
    with pytest.raises(FolderRefused) as refused:
        read_plan(content.encode(), "x/plan.json")
    assert "x/plan.json: damaged: alpha: is missing" in str(refused.value)
    assert "x/plan.json: damaged: seeds: need a whole number, got the text 'many'" in str(refused.value)


def test_explore_only(tmp_path):
    sweep = start(tmp_path, confirm={"design": "none"})
    assert drive(sweep, Trainer()) and sweep.plan is None and sweep.error is None


def test_stages_stop_where_they_are_told(tmp_path):
    def at(stage):
        s = study()
        store = Store(ResultsFolder.at(tmp_path), s.space.names)
        return Sweep(s, store, FACTS, one_dataset(s, "d", ["a", "b"]), stage)

    trainer = Trainer()
    sweep = at("explore")
    assert sweep.needs_workers and drive(sweep, trainer) and sweep.plan is None
    sweep.store.close()
    sweep = at("plan")
    assert not sweep.needs_workers and sweep.next() is None and sweep.finished and sweep.plan is not None
    sweep.store.close()
    sweep = at("plan")
    assert not sweep.needs_workers and drive(sweep, trainer) and len(sweep.store.trials) == 12
    sweep.store.close()
    sweep = at("confirm")
    assert sweep.needs_workers and drive(sweep, trainer) and len(sweep.store.trials) == 12 + 8


def test_the_pilot_runs_before_all_else_and_the_plan_says_what_it_found(tmp_path):
    def at(stage, pilot=3):
        s = study(confirm={"pilot": pilot})
        return Sweep(s, Store(ResultsFolder.at(tmp_path), s.space.names), FACTS, one_dataset(s, "d", ["a", "b"]), stage)

    trainer = Trainer()
    sweep = at("pilot")
    assert sweep.needs_workers and not drive(sweep, trainer, steps=13)  # one run has ended, two have begun
    sweep.interrupt()
    sweep.store.close()
    sweep = at("pilot")
    assert sweep.needs_workers and drive(sweep, trainer)
    rows = list(sweep.store.trials.values())
    assert [row["phase"] for row in rows] == ["pilot"] * 3 and all(row["status"] == "complete" for row in rows)
    assert len({row["seed"] for row in rows}) == 3 and {row["kernel"] for row in rows} == {3}
    sweep.store.close()
    again = at("pilot")
    assert not again.needs_workers
    again.store.close()

    sweep = at("all", pilot=4)
    assert drive(sweep, trainer) and sweep.error is None
    sweep.store.close()
    trials = read_table(ResultsFolder.at(tmp_path), "trials").to_pylist()
    pilot = [row["test_accuracy"] for row in trials if row["phase"] == "pilot"]
    assert len(pilot) == 4 and sweep.plan.pilot == {"runs": 4, "sd": pytest.approx(100 * np.std(pilot, ddof=1))}
    assert sum(row["phase"] in ("explore", "audit") for row in trials) == 12
    assert len({row["number"] for row in trials}) == len(trials)
    assert {row["trial_id"] for row in tables(tmp_path)["predictions"].to_pylist()} == {
        row["trial_id"] for row in trials if row["phase"] == "confirm"
    }
    found = replicates(read_table(ResultsFolder.at(tmp_path), "trials").to_pandas())
    assert (found.arms, found.runs) == (1 + len(sweep.plan.arms), 4 + 2 * len(sweep.plan.arms))


def test_a_pilot_changes_neither_the_explore_trials_nor_the_plan(tmp_path):
    with_pilot, without = (study(confirm={"pilot": n}) for n in (3, 0))
    assert with_pilot.study_hash == without.study_hash and asked(with_pilot) == asked(without)
    with pytest.raises(BadRequest, match=r"confirm\.pilot: one run shows no spread"):
        study(confirm={"pilot": 1})


def test_confirming_needs_an_explore_stage_that_has_ended(tmp_path):
    sweep = start(tmp_path)
    drive(sweep, Trainer(), steps=3)
    sweep.store.flush()
    sweep.store.lease.release()
    s = study()
    with pytest.raises(BadRequest, match="--phase confirm: 2 explore trials have not ended"):
        Sweep(s, Store(ResultsFolder.at(tmp_path), s.space.names), FACTS, one_dataset(s, "d", []), "confirm")


def test_other_confirm_settings_are_a_new_plan_with_fresh_runs(tmp_path):
    trainer = Trainer()
    sweep = start(tmp_path)
    drive(sweep, trainer, steps=100)
    first = sweep.plan.plan_hash
    sweep.store.flush()
    sweep.store.lease.release()
    again = start(tmp_path, confirm={"seeds": 3, "delta": 1.0})
    assert again.plan is None and drive(again, trainer)
    assert again.plan.plan_hash != first and (tmp_path / "plans" / f"{first}.json").exists()
    rows = list(again.store.trials.values())
    old, new = ([r for r in rows if r["plan_hash"] == h] for h in (first, again.plan.plan_hash))
    assert old and len(new) == 4 * 3 and not {r["seed"] for r in old} & {r["seed"] for r in new}
    assert all(Status(r["status"]).ended for r in rows)
    assert len({r["number"] for r in rows}) == len(rows)
    assert sum(again.counts().values()) == again.progress.planned == len(rows) - len(old)


def test_a_sweep_in_which_nothing_works_ends_early(tmp_path):
    sweep = start(tmp_path)
    while (task := sweep.next()) is not None:
        sweep.ended(task.trial_id, Status.FAILED, "ImportError: no module named x")
    assert isinstance(sweep.error, TrialsFailed) and "first 4 trials failed" in str(sweep.error)
    assert "no module named x" in str(sweep.error) and len(sweep.store.trials) == 4


@pytest.mark.parametrize(
    "reasons, ends",
    [
        (
            [
                "epoch 2: ValueError: got 0.25 (mine.py, line 8, in train)",
                "epoch 3: ValueError: got 1e-3 (mine.py, line 8, in train)",
            ],
            True,
        ),
        (
            ["epoch 2: ValueError: got 0.25 (mine.py, line 8, in train)", "KeyError: 'x' (mine.py, line 9, in train)"],
            False,
        ),
    ],
    ids=["alike", "unlike"],
)
def test_a_sweep_ends_where_the_first_four_trials_fail_alike_also_after_epochs(reasons, ends, tmp_path):
    sweep, trainer = start(tmp_path, stopping=False), Trainer()
    for number in range(4):
        task = sweep.next()
        assert sweep.report(task.trial_id, trainer.step(task, 0))
        sweep.ended(task.trial_id, Status.FAILED, reasons[number % 2])
    assert isinstance(sweep.error, TrialsFailed) == ends
    assert not ends or "first 4 trials failed, the last with: epoch 3: ValueError" in str(sweep.error)


def test_a_sweep_of_which_a_trial_has_worked_goes_on(tmp_path):
    sweep = start(tmp_path)
    first = sweep.next()
    sweep.ended(first.trial_id, Status.DIVERGED, "the loss is nan")
    while len(sweep.store.trials) < 6 and (task := sweep.next()) is not None:
        sweep.ended(task.trial_id, Status.FAILED, "ImportError: no module named x")
    assert sweep.error is None


def test_a_plan_with_an_arm_that_cannot_be_run_is_refused(tmp_path):
    sweep = start(tmp_path)
    drive(sweep, Trainer(), steps=100)
    sweep.interrupt()
    sweep.store.close()
    arms = [arm.model_copy(update={"values": arm.values | {"blocks": 0}}) for arm in sweep.plan.arms]
    plan = sweep.plan.model_copy(update={"arms": arms})
    content = plan.content() | {"plan_hash": plan.plan_hash}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(FolderRefused, match=r"arm incumbent cannot be run: blocks: .*greater than"):
        start(tmp_path)


def test_arms_of_unequal_budgets_are_not_compared():
    s = arms_study(long={"epochs": 6}, longer={"epochs": 6, "blocks": 3})
    plan = make_plan(s, [], "d", "c")
    assert plan.contrasts == ["arm: deep - plain", "arm: longer - long"]
    alone = make_plan(arms_study(long={"epochs": 6}), [], "d", "c")
    assert alone.contrasts == ["arm: deep - plain"]
    assert alone.not_compared == {"long": "no other arm is trained for the same (glyphs, 6 epochs)"}


def arms_study(**arms):
    base = {"plain": {"blocks": 2}, "deep": {"blocks": 3}}
    content = {"name": "a", "dataset": {"name": "glyphs"}, "arms": base | arms, "search": {"epochs": 3}}
    return build_study(content | {"confirm": {"design": "arms", "seeds": 2}}, "a.yaml")


def start_arms(path, **arms):
    s = arms_study(**arms)
    data = {data_key(s.arm_config(name, seed=0)): (name, ["a", "b"]) for name in s.arms}
    return Sweep(s, Store(ResultsFolder.at(path), s.columns), FACTS, data)


def test_named_arms_are_run_on_every_seed_without_a_search(tmp_path):
    sweep = start_arms(tmp_path)
    assert sweep.needs_workers and drive(sweep, Trainer())
    rows = list(sweep.store.trials.values())
    assert [(r["arm"], r["seed_block"], r["blocks"]) for r in rows] == [
        ("plain", 0, 2),
        ("deep", 0, 3),
        ("plain", 1, 2),
        ("deep", 1, 3),
    ]
    assert all(r["phase"] == Phase.CONFIRM and r["status"] == "complete" and r["test_accuracy"] for r in rows)


def test_an_arm_waits_for_its_source_and_starts_from_its_weights(tmp_path):
    source = {"data": {"label": "font"}, "epochs": 2}
    sweep = start_arms(tmp_path, late={"source": "early", "frozen": 2}, early=source)
    order, trainer = [], Trainer()
    tasks = {}
    while not sweep.finished:
        while (task := sweep.next()) is not None:
            tasks[task.trial_id] = task
            order.append(sweep.store.trials[task.trial_id]["arm"])
        for trial_id in list(sweep.running):
            while sweep.report(trial_id, trainer.step(tasks[trial_id], 0)):
                pass
    assert sorted(order) == sorted(["plain", "deep", "late", "early"] * 2)
    by = {(r["arm"], r["seed_block"]): r for r in sweep.store.trials.values()}
    for block in (0, 1):
        late, early = tasks[by["late", block]["trial_id"]], tasks[by["early", block]["trial_id"]]
        assert late.source == early.trial_id and early.keep and not late.keep
        assert list(tasks).index(early.trial_id) < list(tasks).index(late.trial_id)
        assert (early.data_hash, early.config.epochs, late.config.epochs) == ("early", 2, 3)


def test_an_arm_whose_source_failed_is_a_row_that_says_so(tmp_path):
    sweep = start_arms(tmp_path, late={"source": "early"}, early={"epochs": 2})
    assert drive(sweep, Trainer(broken=lambda config: config.epochs == 2))
    late = [r for r in sweep.store.trials.values() if r["arm"] == "late"]
    assert len(late) == 2 and all(r["status"] == "failed" and "diverged" in r["reason"] for r in late)


@pytest.mark.parametrize(
    "arms, words",
    [
        ({"x": {"blocksize": 3}}, "arms.x.blocksize: not a setting"),
        ({"x": {"blocks": 0}}, "arms.x: blocks: .* greater than or equal to 1"),
        ({"x": {"source": "nobody"}}, r"arms.x.source: 'nobody' is not an arm .*allowed: plain, deep"),
        ({"x": {"data": {"label": "size"}, "epochs": 0}}, "arms.x: epochs"),
    ],
)
def test_arms_are_checked(arms, words):
    with pytest.raises(BadRequest, match=words):
        arms_study(**arms)
