"""All analyses of a thousand trials of fifty epochs. Their time: benchmarks/tables.py."""

from made_results import default_study, make_results

from resnetlab.analysis.claims import claims
from resnetlab.analysis.effects import estimate, performance
from resnetlab.analysis.fairness import fairness
from resnetlab.analysis.foresight import foresight
from resnetlab.analysis.importance import importance
from resnetlab.analysis.naive import flips, naive
from resnetlab.analysis.power import block_correlation
from resnetlab.analysis.results import Results
from resnetlab.analysis.runs import Runs


def test_a_thousand_trials_of_fifty_epochs(tmp_path):
    study = default_study(
        search={"trials": 936, "epochs": 50, "grace": 50, "sampler": "random"},
        confirm={"design": "fractional", "seeds": 4},
        hypotheses=["kernel 5 > kernel 3 by at least 0.5 points", "head_depth 2 within 1 point of head_depth 1"],
    )
    make_results(tmp_path / "many", study, faults=False, test_images=200)
    results = Results.open(tmp_path / "many")
    plan, confirm = results.plan, results.confirm
    assert len(results.trials) == 1000 and len(results.epochs) == 50_000
    effects = estimate(Runs.of(plan, confirm))
    assert len(performance(Runs.of(plan, confirm))) == 16
    assert set(claims(study, plan, confirm)["verdict"]) <= {"supported", "refuted", "inconclusive"}
    levels = {name: study.space[name].levels for name in plan.compared}
    assert len(flips(naive(results.trials, results.rungs, levels, plan.incumbent), effects)) == 3 * 6
    assert fairness(study, plan, results.trials) and len(importance(study, results.trials, results.epochs).table)
    assert block_correlation(Runs.of(plan, confirm).values).blocks == 4 and list(foresight(study, results))
