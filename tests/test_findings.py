"""What the report shows is computed once from the tables, however many parts use it."""

from collections import Counter

import pytest
from made_arms import make_arms
from made_results import make_results

from resnetlab.analysis.confirm import effects_table
from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.evaluation import test_predictions, transfer_cost
from resnetlab.analysis.results import Results
from resnetlab.report import terminal
from resnetlab.report.figures.catalog import gallery
from resnetlab.report.findings import Findings
from resnetlab.report.page import page
from resnetlab.reproduction import verdict_tables

COUNTED = [(ConfirmRuns, "of"), (effects_table, "estimate"), (effects_table, "performance"),
           (test_predictions, "arms_of"), (test_predictions.Predictions, "of"), (transfer_cost, "costs"),
           (verdict_tables, "reproduction_of")]  # fmt: skip


@pytest.mark.parametrize("make", [make_results, make_arms], ids=["factors", "arms"])
def test_report_and_terminal_compute_everything_once(tmp_path, monkeypatch, make):
    make(tmp_path)
    calls = Counter()

    def counted(name, call):
        def count(*arguments, **options):
            calls[name] += 1
            return call(*arguments, **options)

        return count

    for owner, name in COUNTED:
        key = f"{owner.__name__}.{name}"
        monkeypatch.setattr(owner, name, counted(key, getattr(owner, name)))
    findings = Findings(Results.open(tmp_path))
    gallery(findings)
    page(findings, {})
    terminal.told(findings, str(tmp_path)).as_json()
    assert calls["ConfirmRuns.of"] == 1 and calls["resnetlab.analysis.confirm.effects_table.estimate"] == 1
    assert set(calls.values()) == {1}


def test_without_a_plan_there_are_no_effects_and_all_else_is_empty(tmp_path):
    make_results(tmp_path, confirm=False)
    findings = Findings(Results.open(tmp_path))
    assert findings.effects.empty and findings.arms == [] and findings.exploratory == []
    with pytest.raises(ValueError, match="has no plan"):
        findings.runs  # noqa: B018
