"""All analyses run on a thousand trials of fifty epochs. Their speed: benchmarks/tables.py."""

from made_results import default_study, make_results

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.effects_table import estimate, performance
from resnetlab.analysis.confirm.fairness import fairness
from resnetlab.analysis.confirm.power import block_correlation
from resnetlab.analysis.confirm.power_preview import foresight
from resnetlab.analysis.confirm.verdicts import claims
from resnetlab.analysis.explore.importance import importance
from resnetlab.analysis.explore.naive import flips, naive
from resnetlab.analysis.results import Results


def test_a_thousand_trials_of_fifty_epochs(tmp_path):
    study = default_study(
        search={"trials": 936, "epochs": 50, "grace_period": 50, "sampler": "random"},
        confirm={"design": "fractional", "seeds": 4},
        hypotheses=["kernel 5 > kernel 3 by at least 0.5 points", "head_depth 2 within 1 point of head_depth 1"],
    )
    make_results(tmp_path / "many", study, faults=False, test_images=200)
    results = Results.open(tmp_path / "many")
    plan, confirm = results.plan, results.confirm
    assert len(results.trials) == 1000 and len(results.epochs) == 50_000
    effects = estimate(ConfirmRuns.of(plan, confirm))
    assert len(performance(ConfirmRuns.of(plan, confirm))) == 16
    assert set(claims(study, plan, confirm)["verdict"]) <= {"supported", "refuted", "inconclusive"}
    levels = {name: study.space[name].levels for name in plan.compared}
    assert len(flips(naive(results.trials, results.rungs, levels, plan.incumbent), effects)) == 3 * 6
    assert fairness(study, plan, results.trials) and len(importance(study, results.trials, results.epochs).table)
    assert block_correlation(ConfirmRuns.of(plan, confirm).values).blocks == 4 and list(foresight(study, results))
