"""Our ASHA makes the same decisions as Ray's, and can be restored from its recorded rows."""

from types import SimpleNamespace

from curves_here import play
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler

from resnetlab.search.schedulers.asha import Asha, rung_epochs

sweeps = st.tuples(
    st.integers(1, 3),  # grace
    st.integers(2, 4),  # reduction
    st.integers(3, 30),  # epochs
    st.lists(st.lists(st.integers(0, 20), min_size=30, max_size=30), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)


@settings(max_examples=150)
@given(sweeps)
def test_decisions_equal_rays(sweep):
    grace, reduction, epochs, curves, rng = sweep
    ray = ASHAScheduler(
        time_attr="epoch", metric="value", mode="max", max_t=epochs, grace_period=grace, reduction_factor=reduction
    )
    trials = [SimpleNamespace(trial_id=str(i)) for i in range(len(curves))]
    for trial in trials:
        ray.on_trial_add(None, trial)
    ours = Asha(grace, reduction, epochs)
    decisions = []

    def both(number, epoch, value):
        said = ray.on_trial_result(None, trials[number], {"epoch": epoch, "value": value}) != "STOP"
        row = ours.report(str(number), epoch, value)
        assert (row is None or row.decision == "continue") == said
        decisions.append(row)
        return said

    play(both, curves, epochs, rng)


@settings(max_examples=60)
@given(sweeps, st.integers(0, 60))
def test_rungs_rebuilt_from_rows_decide_the_same(sweep, cut):
    grace, reduction, epochs, curves, rng = sweep
    state = rng.getstate()
    straight = Asha(grace, reduction, epochs)

    def plain(trial, epoch, value):
        row = straight.report(str(trial), epoch, value)
        return row is None or row.decision == "continue"

    expected = play(plain, curves, epochs, rng)
    rng.setstate(state)
    current, rows, calls = Asha(grace, reduction, epochs), [], 0

    def interrupted(trial, epoch, value):
        nonlocal current, calls
        calls += 1
        if calls == cut:
            current = Asha(grace, reduction, epochs)
            current.replay(rows)
        row = current.report(str(trial), epoch, value)
        if row is not None:
            rows.append({"trial_id": str(trial), **row.as_row()})
        return row is None or row.decision == "continue"

    assert play(interrupted, curves, epochs, rng) == expected


def test_rows_say_what_was_seen():
    asha = Asha(1, 2, 4)
    assert asha.epochs == [1, 2] == rung_epochs(1, 2, 4)
    first = asha.report("a", 1, 0.5)
    assert (first.cutoff, first.recorded, first.decision) == (None, 0, "continue")
    assert asha.report("a", 1, 0.9) is None
    second = asha.report("b", 1, 0.4)
    assert (second.rung, second.cutoff, second.recorded, second.decision) == (0, 0.5, 1, "stop")
    assert asha.report("c", 1, 0.3, exempt=True).decision == "exempt"
    assert asha.report("a", 3, 0.1) is None


def test_a_trial_that_skipped_a_rung_does_not_fill_it():
    asha = Asha(1, 3, 9)
    asha.report("resumed", 5, 0.99)
    assert asha.report("fresh", 1, 0.1).decision == "continue"
    assert asha.report("fresh", 3, 0.1).decision == "continue"
