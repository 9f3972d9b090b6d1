"""Which network to use, or which settings of a task: the best arm of the design, or those that cannot be told apart."""

from __future__ import annotations

from resnetlab.analysis.confirm.best_arm import Best
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.answer import chosen_run, which_network
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import compact, settings, shown, span
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.report.rerun_command import rerun_command


def section(findings: Findings) -> Section | None:
    """None where there is no plan, a single arm, or a run that has not ended."""
    if findings.results.plan is None or not findings.best:
        return None
    tables = [_table(findings, best) for best in findings.best]
    title = "Which settings to use" if findings.results.study.experiment else "Which network to use"
    return Section("best", title, which_network(findings), tables)


def _table(findings: Findings, best: Best) -> Table:
    results, plan, metric = findings.results, findings.results.planned, findings.metric
    new = plan.about == "new" and findings.performance["low_new"].notna().any()
    export = [] if results.study.experiment else ["--export", "model"]
    rows = []
    for row in best.candidates:
        arm, mean = plan.arms[row], findings.performance.iloc[row]
        run = chosen_run(findings, row)
        rows.append(
            [
                arm.name,
                settings(arm.values),
                shown(mean["mean"], metric),
                span(mean["low_new" if new else "low"], mean["high_new" if new else "high"], metric),
                "" if results.study.experiment else compact(run["parameters"]),
                f"trial {run['number']}",
                rerun_command(results, results.folder.place, str(run["number"]), *export),
            ]
        )
    interval = "95% interval, new images" if new else "95% interval"
    headings = ["Arm", "Setting", metric.label, interval, "Parameters", "Run", "Command"]
    kinds = ["name", "long", "number", "number", "number", "text", "code"]
    foot = (
        f"{Counts.of(results.confirm).words('confirm')}. Run: of the arm's, the best by {findings.searched.words}, not "
        "by the test split. The mean of an arm that was chosen for it is optimistic."
    )
    title = f"May be the best of {best.of} arms" + (f" ({best.task})" if len(findings.best) > 1 else "")
    return Table(headings, kinds, rows, foot, title, folded=len(rows) > FOLDED).without_empty()
