"""Levels of looks against published ones, and what looks conclude, on many simulated confirm stages at once."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from resnetlab.analysis.confirm import spending
from resnetlab.analysis.confirm.collapse import Runs
from resnetlab.analysis.confirm.contrasts import CellMeans, holm
from resnetlab.analysis.confirm.effects import contrasts, sides_of
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.analysis.confirm.looks import Course, Rule, not_beyond, replanned
from resnetlab.calibration.looks import looked_plan
from resnetlab.calibration.simulator import Truth, confirm_values

# Upper bounds of gsDesign(k, test.type=2, sfu=sfLDOF, alpha=0.025), equally spaced looks.
GSDESIGN = {
    2: [2.963, 1.969],
    3: [3.710, 2.511, 1.993],
    5: [4.877, 3.357, 2.680, 2.290, 2.031],
}


@pytest.mark.parametrize("looks", GSDESIGN)
def test_levels_agree_with_gsdesign(looks):
    levels = spending.levels([0.05], [k / looks for k in range(1, looks + 1)])[:, 0]
    assert stats.norm.isf(levels / 2) == pytest.approx(GSDESIGN[looks], abs=6e-4)


def test_levels_after_blocks_two_to_four():
    assert spending.nominal(0.05, 4) == pytest.approx([0.00305, 0.0183, 0.0440], abs=5e-5)


@pytest.mark.parametrize("blocks", [3, 8, 23, 100])
def test_what_all_looks_spend_together_is_alpha(blocks):
    """A random walk crosses the bounds with probability α: 200,000 walks, four standard errors."""
    bounds = stats.norm.isf(spending.nominal(0.05, blocks) / 2)
    rng = np.random.default_rng(blocks)
    walks = rng.standard_normal((200_000, blocks)).cumsum(1)[:, 1:] / np.sqrt(np.arange(2, blocks + 1))
    crossed = (np.abs(walks) > bounds).any(1).mean()
    assert crossed == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 200_000))


def test_sequential_p_is_at_most_alpha_just_where_the_level_is_met():
    exact = tuple(0.05 / m for m in range(5, 0, -1))
    for blocks in (3, 8, 23):
        for block in range(2, blocks + 1):
            for m in (1, 3, 5):
                level = spending.nominal(0.05 / m, blocks)[block - 2]
                ends = spending.least_alpha(np.array([level * 0.999, level * 1.001]), block, blocks, exact)
                assert ends[0] < 0.05 / m < ends[1]
    assert np.isnan(spending.least_alpha(np.array([np.nan]), 2, 8, exact)).all()
    inside = spending.least_alpha(np.logspace(-12, 0, 200), 4, 8, exact)
    assert (np.diff(inside) >= 0).all() and inside[-1] <= 1


def course(kind, blocks, truth, repeats=200, seed=0, **looks):
    plan = looked_plan(kind, blocks, **looks)
    asked = estimands(plan)
    values = confirm_values(truth, [arm.values for arm in plan.arms], blocks, repeats, np.random.default_rng(seed))
    runs = Runs(values, np.isnan(values), np.array(plan.levels_of_guessing))
    found = Course(Rule.of(plan, asked, sides_of(plan, asked)), runs)
    return plan, found, list(found.follow())


def test_at_each_look_effects_are_holm_rejections_at_its_levels():
    """The rule as Maurer & Bretz have it, step by step: reject where p <= a_k(α/m), lower m, again."""
    plan, found, looks = course("fractional", 6, Truth(main={"kernel": {5: 1.0}, "se": {True: 0.8}}))
    main = found.rule.asked.of_kind("main")
    rejected = np.zeros((200, len(main)), dtype=bool)
    for look in looks:
        for place, repeat in enumerate(look.repeats):
            p = look.estimates.p[place, main]
            while True:
                m = int((~rejected[repeat]).sum())
                level = spending.nominal(plan.alpha / max(m, 1), 6)[look.block - 2]
                more = (p <= level) & ~rejected[repeat]
                if not more.any():
                    break
                rejected[repeat] |= more
    analysis = found.analysis()
    effect = analysis.verdict[:, main] == "effect"
    assert rejected.any() and not (rejected & ~effect).any()
    assert (effect & ~rejected).mean() < 0.005  # a p of an earlier look may be rejected once m is lower
    assert ((analysis.p_adjusted[:, main] <= plan.alpha) == effect).all()


def test_without_a_stop_the_last_look_is_nearly_the_fixed_design():
    plan, found, _ = course("one-factor", 5, Truth(main={"kernel": {5: 1.5}}), futility=0.0)
    whole = contrasts(found.rule.asked, CellMeans.of(found.runs.values))
    last = found.block == 5
    assert last.any() and np.allclose(found.estimates.estimate[last], whole.estimate[last])
    level = spending.nominal(plan.alpha, 5)[-1]
    assert 0.8 * plan.alpha < level < plan.alpha
    surely = (holm(whole.p) <= 0.02) & last  # that which stays below the last level whatever was spent before
    assert surely.any() and (found.analysis().verdict[surely] == "effect").all()


def test_equivalence_is_two_one_sided_tests_at_half_of_what_ten_percent_may_spend():
    _, found, looks = course("fractional", 16, Truth(sd=0.3))
    equal = np.zeros(found.block.shape, dtype=bool)
    for look in looks:
        level = spending.nominal(0.10, 16)[look.block - 2] / 2
        equal[look.repeats] |= not_beyond(look.estimates, found.rule.delta) <= level
    main = found.rule.asked.of_kind("main")
    assert (found.equal[0][:, main] == equal[:, main]).all()
    assert (found.decision[:, found.rule.primary] == "equivalent").mean() > 0.9


def test_an_arm_stops_alone_and_its_comparison_keeps_what_it_rested_on():
    plan, found, _looks = course("one-factor", 8, Truth(main={"kernel": {5: 3.0}}))
    names = [arm.name for arm in plan.arms]
    kernel = names.index("kernel=5")
    runs = found.needed.sum(2)
    assert runs[:, kernel].mean() < runs[:, 0].mean() and (runs[:, 0] == runs.max(1)).all()
    which = [item.factor for item in found.rule.asked.items].index("kernel")
    assert (found.n[:, which, kernel] == found.block[:, which]).all()
    assert (found.n[:, which, 0] == found.block[:, which]).all()


def test_seeds_are_set_again_from_the_spread_alone():
    plan, found, _ = course("fractional", 23, Truth(main={"kernel": {5: 2.0}}), reestimate=True)
    shifted = found.runs.values + 10 * np.arange(len(plan.arms))[:, None]
    assert (replanned(found.rule, found.runs.values[:, :, :2]) == replanned(found.rule, shifted[:, :, :2])).all()
    assert (found.blocks < 23).all() and 5 < found.blocks.mean() < 9  # sd 0.74 and delta 0.5 need 7
    loud = replace(Truth(), sd=5.0)
    assert (course("fractional", 23, loud, reestimate=True)[1].blocks == 23).all()
    assert (found.stopped <= found.blocks).all()


def test_one_declared_primary_lets_the_whole_stop():
    _, found, _ = course("fractional", 16, Truth(main={"kernel": {5: 1.0}}), primaries=("kernel",))
    _, every, _ = course("fractional", 16, Truth(main={"kernel": {5: 1.0}}))
    assert found.needed.mean() < every.needed.mean() - 0.2
    assert (found.decision[:, found.rule.primary] != "open").mean() > 0.99


def test_a_killed_look_is_taken_again_from_the_runs_that_have_ended():
    _plan, found, looks = course("one-factor", 6, Truth(main={"kernel": {5: 1.0}}), repeats=50)
    ended = np.zeros(found.runs.values.shape, dtype=bool)
    ended[:, :, :3] = True
    again = Course(found.rule, found.runs)
    part = list(again.follow(ended))
    assert [look.block for look in part] == [2, 3]
    for one, other in zip(part, looks, strict=False):
        assert (one.decision == other.decision).all() and (one.active == other.active).all()
    assert not again.needed[:, :, 4:].any() and (again.needed[:, :, 3] == found.needed[:, :, 3]).all()


def test_verdicts_that_turn_on_untrained_runs_do_not_settle():
    """Kernel 5 looks worse because of runs that ended at the level of guessing: never an effect, so nothing stops."""
    plan = looked_plan("one-factor", 6)
    values = confirm_values(Truth(), [arm.values for arm in plan.arms], 6, 40, np.random.default_rng(1))
    kernel = [arm.name for arm in plan.arms].index("kernel=5")
    values[:, kernel, ::2] = 0.10
    lost = values <= 0.12
    asked = estimands(plan)
    found = Course(
        Rule.of(plan, asked, sides_of(plan, asked)), Runs(values, lost, np.array(plan.levels_of_guessing))
    )  # fmt: skip
    list(found.follow())
    which = [item.factor for item in asked.items].index("kernel")
    assert not (found.analysis().verdict[:, which] == "effect").any()
