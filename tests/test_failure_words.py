"""Reports of failures: how a log is read, how failures are grouped, and when a report may say `yet`."""

import pytest
from made_results import make_results

from resnetlab.analysis.failures import failures, remedy, unmade
from resnetlab.analysis.results import Results
from resnetlab.ray_backend.worker_death import cause_of_death
from resnetlab.report import terminal
from resnetlab.report.build import build_report
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table, write_table
from resnetlab.sweep import crashes

BEGINS = "trial 0123456789ab begins; processes ended by the kernel's OOM killer so far: "
FATAL = """
Fatal Python error: Segmentation fault

Current thread 0x1 (most recent call first):
  File "/x/step.py", line 9 in step
  File "/x/loop.py", line 8 in run
Extension modules: a.b
"""


def diagnosed(text, killed=3):
    return crashes.diagnose(text, "worker.err", killed)


def test_a_signal_is_read_from_what_the_process_wrote_last():
    old = "trial ffffffffffff begins; processes ended by the kernel's OOM killer so far: 3\nolder words\n"
    crash = diagnosed(f":job_id:1\n{old}{BEGINS}3\nfree(): invalid pointer\n*** SIGABRT received at time=1 ***{FATAL}")
    assert crash.signal == "SIGABRT" and not crash.oom and crash.log[0].startswith("trial 0123456789ab")
    assert crash.excerpt == (
        'free(): invalid pointer | Fatal Python error: Segmentation fault | File "/x/step.py", line 9 in step | '
        'File "/x/loop.py", line 8 in run'
    )
    assert diagnosed(f"{BEGINS}3\n{FATAL}").signal == "SIGSEGV"
    assert "older words" not in " ".join(diagnosed(f"{old}{BEGINS}3\nnew words\n").log)


def test_silence_is_sigkill_and_the_kernels_count_tells_whose():
    assert diagnosed(f"{BEGINS}3\n").cause.startswith("killed by SIGKILL (it left no word")
    assert diagnosed(f"{BEGINS}2\n").oom and "ran out of memory" in diagnosed(f"{BEGINS}2\n").cause
    assert not diagnosed(f"{BEGINS}unknown\n").oom and not diagnosed(f"{BEGINS}2\n", None).oom
    assert "smaller batch" in diagnosed(f"{BEGINS}2\n").advice([])


def test_a_machine_that_leaves_and_a_log_that_nobody_can_read_are_no_crash():
    assert diagnosed(f"{BEGINS}3\n{crashes.LEAVES}\n") is None
    assert diagnosed("") is None
    assert cause_of_death("The actor died because its node has died. Node Id: f") is None


def test_a_trial_that_hangs_says_where_it_was():
    crash = diagnosed(
        f'{BEGINS}3\nTimeout (0:00:15)!\nThread 0x1 (most recent call first):\n  File "/x/y.py", line 2 in z\n'
    )
    said = crashes.late(15.0, crash)
    assert said.startswith(
        "an epoch took longer than 15 s (resources.epoch_timeout_s); where it was: Timeout (0:00:15)!"
    )
    assert 'File "/x/y.py", line 2 in z' in said and "larger resources.epoch_timeout_s" in said
    assert crashes.late(15.0, None).startswith("an epoch took longer than 15 s (resources.epoch_timeout_s); try")


def changed(place, change):
    """The made results with some rows changed."""
    make_results(place, faults=False)
    folder = ResultsFolder.at(place)
    table = read_table(folder, "trials")
    rows = table.to_pylist()
    for row in rows:
        row.update(change(row) or {})
    write_table(folder, "trials", table.from_pylist(rows, table.schema))
    return Results.open(place)


def lost(reason, **more):
    return {"status": "failed", "reason": reason, "epochs_run": 0, "test_accuracy": None, "val_accuracy": None, **more}


def test_failures_are_grouped_by_cause_whatever_numbers_are_in_it(tmp_path):
    def change(row):
        if row["phase"] == "confirm" and row["arm"] != "incumbent":
            return lost(f"no room for {row['number']} MiB in trial {row['trial_id']}; settings: {row['number']}")
        return lost("ValueError: other") if row["number"] == 0 else None

    results = changed(tmp_path / "made", change)
    most, early = failures(results)
    assert most.trials > 10 and most.cause.startswith("no room for") and most.remedy.endswith("--retry-failed")
    assert (early.trials, early.number, early.cause, early.remedy) == (1, 0, "ValueError: other", "")  # before the plan
    effects = Findings(results).effects
    assert set(unmade(results, effects)) == set(effects.loc[effects["estimand"] != "not in the plan", "name"])
    told = terminal.told(Findings(results), str(tmp_path / "made"))
    assert told.next == most.remedy and "yet" not in told.lead and told.lead.startswith("No comparison can be made")
    text = "\n".join(terminal.failed(told))
    assert f"{most.trials} trials failed, e.g. {most.example}: no room for" in text and "not made" in text
    assert told.as_json()["failures"][0]["trials"] == most.trials
    build_report(tmp_path / "made")
    page = (tmp_path / "made/report.html").read_text()
    assert "What failed" in page and most.example in page and "ValueError: other" in page


def test_while_runs_are_to_come_the_report_says_yet_and_no_comparison_is_given_up(tmp_path):
    def change(row):
        if row["phase"] != "confirm":
            return None
        return lost("why") if row["arm"] != "incumbent" and row["seed_block"] else lost("", status="interrupted")

    results = changed(tmp_path / "made", change)
    assert not unmade(results, Findings(results).effects)
    assert "can be estimated yet" in terminal.told(Findings(results), "made").lead


@pytest.mark.parametrize("design", ["none", "one-factor"])
def test_a_study_that_confirms_nothing_does_not_say_yet(tmp_path, design):
    make_results(tmp_path / "made", confirm=False)
    results = Results.open(tmp_path / "made")
    confirm = results.study.confirm.model_copy(update={"design": design})
    content = results.study.model_copy(update={"confirm": confirm}).model_dump(mode="json")
    ResultsFolder.at(tmp_path / "made").write_json("study.json", content)
    lead = terminal.told(Findings(Results.open(tmp_path / "made")), "made").lead
    assert ("yet" in lead) == (design != "none"), lead


def test_the_remedy_is_the_command_without_what_would_run_less(tmp_path):
    make_results(tmp_path / "made", faults=False)
    results = Results.open(tmp_path / "made")
    results.sweep["command"] = "python sweeps/ablation.py --phase explore --name made --retry-failed"
    assert remedy(results) == "python sweeps/ablation.py --name made --retry-failed"
    assert remedy(results, weights=True) == "python sweeps/ablation.py --name made --weights FILE --retry-failed"
