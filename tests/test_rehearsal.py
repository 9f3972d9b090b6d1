"""A study's own task, sampler and stopping rule are tried before the first trial, in a process of their own."""

import time
from pathlib import Path

import pytest
from docs_here import of_the_docs
from doors import Door, tree

from resnetlab.cli.dry_run import dry_run
from resnetlab.driver.checks import own_code, rehearsal
from resnetlab.driver.options import Options
from resnetlab.errors import BadRequest
from resnetlab.experiment import own
from resnetlab.storage.results_folder import ResultsFolder

pytestmark = pytest.mark.usefixtures("warm_processes")

TASK = """
import random
import numpy as np

METRICS = {"val_loss": "min", "test_loss": "min", "seconds": ""}

def train(trial, *, depth: int = 2, rate: float = 0.1):
    draw = random.Random(trial.seed("noise"))
    for epoch in range(trial.epochs):
        yield {"val_loss": depth + rate + draw.random(), "seconds": random.random()}
    return {"test_loss": depth + rate} if trial.may_test else None

class Walk:
    def __init__(self, trial, *, depth: int = 2, rate: float = 0.1):
        self.draw, self.place = np.random.default_rng(trial.seed("walk")), np.zeros(depth)

    def epoch(self):
        self.place = self.place + self.draw.normal(size=len(self.place))
        return {"val_loss": float(np.abs(self.place).sum()), "seconds": 0}

    def test(self):
        return {"test_loss": float(np.abs(self.place).sum())}

    def state(self):
        return {"place": self.place, "draw": self.draw.bit_generator.state}

    def load(self, state):
        self.place, self.draw.bit_generator.state = state["place"], state["draw"]

def near(space, done, seed: int, *, step: float = 0.1):
    known = [values for values, objective in done if objective is not None] or [{"depth": 2, "rate": 0.5}]
    rate = known[-1]["rate"] + random.Random(seed).uniform(-step, step)
    return {"depth": known[-1]["depth"], "rate": min(max(rate, 0.05), 0.95)}

def behind(epoch: int, values: list, others: list, *, patience: int = 1) -> bool:
    return epoch >= patience and any(len(other) >= epoch and other[epoch - 1] > values[-1] for other in others)
"""
STUDY = """
experiment: mine.py:train
baseline: {depth: 2, rate: 0.5}
factors: {depth: {levels: [1, 2, 4]}, rate: {low: 0.05, high: 0.95}}
search: {sampler: "mine.py:near", step: 0.2, stopping: "mine.py:behind", trials: 8, epochs: 4}
confirm: {design: one-factor, seeds: 2, delta: 0.1}
"""
WALK = ("mine.py:train", "mine.py:Walk")


def loaded(place, *changes):
    """The study, and the code beside it, with texts replaced by others in both."""
    place.mkdir(exist_ok=True)
    files = {"mine.py": TASK, "study.yaml": STUDY}
    for old, new in changes:
        assert old in TASK + STUDY, old
        files = {name: text.replace(old, new) for name, text in files.items()}
    for name, text in files.items():
        (place / name).write_text(text)
    return own.load(place / "study.yaml")


def tried(place, *changes, **how):
    return rehearsal.try_search_and_task(
        loaded(place / "s", *changes), ResultsFolder.at(place / "r"), place / "cache", **how
    )


@pytest.mark.parametrize("form", [(), (WALK,)], ids=["generator", "object"])
def test_what_is_right_is_found_right_and_leaves_nothing(form, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    assert tried(tmp_path, *form) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "tmp"] and not list((tmp_path / "tmp").iterdir())


VALUE = '"val_loss": depth + rate + draw.random()'
WRONG = {  # changes of the study and its code, and words of the one message
    "it yields nothing": (
        [("range(trial.epochs)", "()")],
        ["experiment: mine.py:train: epoch 1: yielded nothing (allowed: one yield for", "at depth=2, rate=0.5"],
    ),
    "a metric is missing": (
        [(VALUE, '"loss": 1.0')],
        ["epoch 1: yielded no 'val_loss', which METRICS declares (got: loss, seconds)", "at depth=2, rate=0.5"],
    ),
    "a metric is not finite": (
        [(VALUE, '"val_loss": float("nan")')],
        ["experiment: mine.py:train: epoch 1: val_loss is nan", "at depth=2, rate=0.5"],
    ),
    "the same seed gives other numbers": (
        [(VALUE, '"val_loss": random.random()')],
        ["experiment: mine.py:train: epoch 1: val_loss is 0.", "when it is run again with the same seed", "trial.seed"],
    ),
    "its state cannot be kept": (
        [WALK, ('"place": self.place,', '"place": self,')],
        ["state()['place']: holds a Walk, which cannot be kept", "at depth=2, rate=0.5"],
    ),
    "its state cannot be loaded": (
        [WALK, ('state["place"], state["draw"]', 'state["spot"], state["draw"]')],
        ["experiment: mine.py:Walk: KeyError: 'spot' (mine.py, line 28, in load)", 'File "mine.py", line 28, in load'],
    ),
    "an error": (
        [("    draw = random.Random", "    draw = randon.Random")],
        ["mine.py:train: NameError: name 'randon' is not defined", 'File "mine.py", line 8, in train', "at depth=2"],
    ),
    "an error at the smallest point alone": (
        [("    draw =", "    1 / (depth - 1)\n    draw =")],
        ["experiment: mine.py:train: ZeroDivisionError", "at depth=1, rate=0.05"],
    ),
    "an error at the largest point alone": (
        [("    draw =", "    1 / (depth - 4)\n    draw =")],
        ["experiment: mine.py:train: ZeroDivisionError", "at depth=4, rate=0.95"],
    ),
    "nothing of the test split, after the one epoch": (
        [("epochs: 4", "epochs: 1"), ('return {"test_loss": depth + rate}', "return 3")],
        ["on the test split: returned int (3) (allowed: a mapping of names to numbers: test_loss)"],
    ),
    "nothing of the test split, after several epochs": (
        [('return {"test_loss": depth + rate} if trial.may_test else None', "return None")],
        ["on the test split: returned NoneType (None) (allowed: a mapping of names to numbers: test_loss)"],
    ),
    "another number of the test split": (
        [WALK, ('return {"test_loss": float', 'return {"test_los": float')],
        ["on the test split: test() returned no 'test_loss', which METRICS declares (got: test_los)"],
    ),
    "it exits": (
        [("    draw =", "    raise SystemExit(3)\n    draw =")],
        ["experiment: mine.py:train: SystemExit: 3 (mine.py, line 8, in train)\nat depth=2", "Traceback"],
    ),
    "it interrupts": (
        [("    draw =", "    raise KeyboardInterrupt\n    draw =")],
        ["experiment: mine.py:train: KeyboardInterrupt (mine.py, line 8, in train)\nat depth=2"],
    ),
    "it ends Python": (
        [("    draw =", "    import os; os._exit(3)\n    draw =")],
        ["study: experiment: mine.py:train at the baseline: Python ended (3) when its own code was tried"],
    ),
    "the sampler returns no point": (
        [('return {"depth": known', 'return 3\n    x = {"depth": known')],
        ["search.sampler: mine.py:near: returned int (3)"],
    ),
    "the sampler proposes what is no factor": (
        [('return {"depth": known', 'return {"deep": known')],
        ["search.sampler: mine.py:near: proposed 'deep', no factor (allowed: depth, rate)"],
    ),
    "the sampler leaves the space": (
        [("min(max(rate, 0.05), 0.95)", "rate + 3")],
        ["search.sampler: mine.py:near: proposed a point that the study does not have: rate="],
    ),
    "the sampler takes it that a trial has ended": (
        [(' or [{"depth": 2, "rate": 0.5}]', "")],
        ["search.sampler: mine.py:near: IndexError", "while no trial had ended: `done` is empty"],
    ),
    "the sampler takes it that no trial fails": (
        [("if objective is not None]", "if objective > 0]")],
        ["search.sampler: mine.py:near: TypeError", "another trial had failed: its objective is None"],
    ),
    "the stopping rule returns no decision": (
        [("return epoch >= patience and", "return epoch >= patience and 3 +")],
        ["search.stopping: mine.py:behind: returned int (3) (allowed: True to stop"],
    ),
    "the stopping rule raises": (
        [("other[epoch - 1] > values[-1]", "other[epoch] > values[-1]")],
        ["search.stopping: mine.py:behind: IndexError", 'File "mine.py", line'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_the_user_s_terms(case, tmp_path):
    changes, words = WRONG[case]
    with pytest.raises(BadRequest) as caught:
        tried(tmp_path, *changes)
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "resnetlab/" not in said and not (tmp_path / "cache").exists()


def test_on_a_cluster_what_a_task_lacks_on_this_machine_is_told_and_a_wrong_sampler_refused(tmp_path):
    absent = ("    draw = random.Random", '    open("/data/of-the-nodes.csv")\n    draw = random.Random')
    (note,) = tried(tmp_path, absent, elsewhere=True)
    assert note.startswith("tried on this machine, not on a node: experiment: mine.py:train: FileNotFoundError"), note
    changes, _ = WRONG["the sampler leaves the space"]
    with pytest.raises(BadRequest, match=r"search\.sampler: "):
        tried(tmp_path, *changes, elsewhere=True)


def test_a_sampler_of_trials_that_run_one_at_a_time_is_asked_when_one_has_ended(tmp_path):
    assert tried(tmp_path, (' or [{"depth": 2, "rate": 0.5}]', ""), alone=True) == []


def test_a_point_far_from_the_baseline_may_diverge(tmp_path):
    (note,) = tried(tmp_path, (VALUE, '"val_loss": 1.0 if depth < 4 else float("inf")'))
    assert note == "experiment: mine.py:train at the largest point: epoch 1: val_loss is inf, at depth=4, rate=0.95"


def test_each_named_arm_is_tried(tmp_path):
    place = tmp_path / "s"
    loaded(place, ("    draw =", "    1 / (depth - 7)\n    draw ="))
    arms = "arms: {plain: {}, deep: {depth: 4}, deepest: {depth: 7}}\nsearch: {epochs: 3}\n"
    (place / "study.yaml").write_text(f"experiment: mine.py:train\n{arms}confirm: {{design: arms, seeds: 2, delta: 1}}")
    with pytest.raises(BadRequest, match=r"ZeroDivisionError.*\nat depth=7, rate=0\.1"):
        rehearsal.try_search_and_task(
            own.load(place / "study.yaml"), ResultsFolder.at(tmp_path / "r"), tmp_path / "cache"
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("range(trial.epochs)", "range(4)"), []),  # it knows how many the study asks for
        (
            ("        yield", "        1 / (trial.epochs - 1)\n        yield"),
            ["experiment: mine.py:train, to its end with trial.epochs = 1: ZeroDivisionError: division by zero"],
        ),
    ],
)
def test_a_task_that_cannot_do_with_one_epoch_is_not_refused(change, said, tmp_path):
    notes = tried(tmp_path, change)
    assert len(notes) == len(said) and all(map(str.startswith, notes, said)), notes


SLEEPS = "    import time, os; open(PLACE, 'a').write(f'{os.getpid()} '); time.sleep(SECONDS)\n    draw ="


@pytest.mark.parametrize(
    ("seconds", "limit", "first", "many"),
    [(300, 8, "experiment: mine.py:train at the baseline", 5), (5, 9.5, "experiment: mine.py:train with the same", 4)],
    ids=["the first epoch", "a second one"],
)
def test_a_task_that_takes_long_is_left_and_what_was_not_tried_is_said(
    seconds, limit, first, many, tmp_path, monkeypatch, capsys
):
    """The limit counts from the start of the process; a step that cannot end in time is not begun."""
    monkeypatch.setattr(rehearsal, "SECONDS", limit)
    sleeps = SLEEPS.replace("PLACE", repr(str(tmp_path / "pid"))).replace("SECONDS", str(seconds))
    study = loaded(tmp_path / "s", ("    draw =", sleeps))
    began = time.monotonic()
    dry_run(study, Options(storage=str(tmp_path / "r"), cache=tmp_path / "cache"))
    assert time.monotonic() - began < limit + 30
    line = capsys.readouterr().out.splitlines()[-1]
    start = f"not tried before the first trial, for lack of time ({limit:g} s): {first}"
    assert line.startswith(start) and line.count("; ") == many - 1 and "at the largest point" in line, line
    (process,) = set((tmp_path / "pid").read_text().split())
    assert not Path("/proc", process).exists(), "the process that tried it was left"


WRITES = "    (trial.folder / 'half').write_text('x')\n    draw ="


def test_data_that_a_task_makes_stays_for_its_trials_once_all_was_tried(tmp_path, monkeypatch):
    tasks = tmp_path / "cache/tasks"
    assert tried(tmp_path, ("    draw =", WRITES)) == []
    (kept,) = tasks.rglob("half")
    assert kept.parent.parent == tasks and [path.name for path in tasks.iterdir()] == [kept.parent.name]
    assert tried(tmp_path, ("    draw =", WRITES + " 1;" + " draw =")) == [], "other code has another place"
    with pytest.raises(BadRequest, match="FileExistsError"):
        tried(tmp_path, ("    draw =", WRITES.replace("write_text('x')", "touch(exist_ok=False)")))
    assert len(list(tasks.iterdir())) == 2, "nothing of what went wrong"
    monkeypatch.setattr(rehearsal, "SECONDS", 6)
    tried(tmp_path, ("    draw =", WRITES.replace("draw =", "import time; time.sleep(90); draw =")))
    assert len(list(tasks.iterdir())) == 2, "nothing of what was not done in time"


def test_a_task_that_asks_for_a_gpu_is_not_tried_and_that_is_said(tmp_path):
    study = loaded(tmp_path / "s", ("range(trial.epochs)", "()"), ("confirm:", "resources: {gpus: 1}\nconfirm:"))
    (note,) = rehearsal.try_search_and_task(study, ResultsFolder.at(tmp_path / "r"), tmp_path / "cache")
    assert note == "experiment: mine.py:train is not tried before the first trial: it asks for a GPU"


def test_code_of_which_the_folder_has_results_is_not_tried_again(tmp_path):
    study = loaded(tmp_path / "s", ("range(trial.epochs)", "()"))
    folder = ResultsFolder.at(tmp_path / "r")
    own_code.keep(folder, study, [])
    assert rehearsal.try_search_and_task(study, folder, tmp_path / "cache") == []
    other = loaded(tmp_path / "s", ("range(trial.epochs)", "[]"))
    with pytest.raises(BadRequest, match="yielded nothing"):
        rehearsal.try_search_and_task(other, folder, tmp_path / "cache")


def test_the_sampler_and_the_rule_of_a_study_of_images_are_tried_too(tmp_path):
    study = of_the_docs(tmp_path, "my_search.py", "search.yaml")
    assert rehearsal.try_search_and_task(study, ResultsFolder.at(tmp_path / "r"), tmp_path / "cache") == []
    text = (tmp_path / "my_search.py").read_text()
    (tmp_path / "my_search.py").write_text(text.replace("found[factor.name] = ", "found[factor] = "))
    with pytest.raises(BadRequest, match=r"search\.sampler: my_search\.py:near_the_best: "):
        again = own.load(tmp_path / "search.yaml")
        rehearsal.try_search_and_task(again, ResultsFolder.at(tmp_path / "r"), tmp_path / "cache")


def test_a_run_and_a_dry_run_refuse_it_with_one_message_and_leave_nothing(tmp_path):
    place = tmp_path / "p"
    place.mkdir()
    loaded(place, ("range(trial.epochs)", "()"))
    for folder in ("home", "tmp"):
        (place / folder).mkdir()
    before = tree(place)
    with Door("ablation") as door:
        for options in ((), ("--dry-run",)):
            ended = door.call(place, "--study", "study.yaml", *options, RESNETLAB_CACHE=str(place / "cache"))
            assert ended.code == 2 and ended.alone, ended
            assert ended.err.startswith("error: ") and ended.err.count("error: ") == 1, ended.err
            assert (
                "study: experiment: mine.py:train: epoch 1: yielded nothing" in ended.err and "Trace" not in ended.err
            )
            assert tree(place) == before
