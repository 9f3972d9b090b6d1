"""t and Welch intervals equal those of SciPy, and all come from one module with one confidence level."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from resnetlab.analysis.confirm.contrasts import CellMeans, contrast
from resnetlab.analysis.intervals import LEVEL, mean_interval, quantile, t_interval, welch_interval

ONE, OTHER = np.array([0.81, 0.83, 0.84, 0.79]), np.array([0.74, 0.80, 0.69])


def variances(*samples):
    return [values.var(ddof=1) / len(values) for values in samples], [len(values) - 1 for values in samples]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_a_mean_is_that_of_scipy(level):
    wanted = stats.ttest_1samp(ONE, 0.0).confidence_interval(level)
    mean, low, high, n = mean_interval([*ONE, np.nan], level)
    assert (mean, n) == (pytest.approx(ONE.mean()), 4)
    assert (low, high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))


def test_the_interval_of_a_difference_is_that_of_scipy_and_of_the_effects():
    wanted = stats.ttest_ind(ONE, OTHER, equal_var=False).confidence_interval(LEVEL)
    estimate, low, high = welch_interval([ONE.mean(), OTHER.mean()], *variances(ONE, OTHER))
    assert (low, high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))
    cells = CellMeans.of(np.array([ONE, [*OTHER, np.nan]]))
    effect = contrast(cells, np.array([[1.0, -1.0]]), crossed=False)
    assert [*effect.estimate, *np.ravel(effect.interval())] == pytest.approx([estimate, low, high])


def test_of_one_mean_it_is_the_t_interval():
    assert welch_interval([ONE.mean()], *variances(ONE)) == pytest.approx(mean_interval(ONE)[:3])


def test_what_has_no_error_has_no_interval():
    assert np.isnan(quantile(0)) and np.isnan(mean_interval([0.8])[1])
    assert np.isnan(welch_interval([0.8, 0.7], [0.0, 0.0], [1, 1])[1])
    low, high = t_interval(np.array([0.8, 0.7]), np.array([0.01, 0.02]), np.array([3, 0]))
    assert low[0] < 0.8 < high[0] and np.isnan(low[1]) and np.isnan(high[1])


def test_no_other_module_has_a_level_or_a_t_quantile_of_its_own():
    own = re.compile(r"0\.975|0\.025|t\.ppf\(0\.|stdtrit\(|= 0\.95\n")
    files = (Path(__file__).resolve().parents[1] / "resnetlab/analysis").rglob("*.py")
    assert [file.name for file in files if own.search(file.read_text())] == ["intervals.py"]
