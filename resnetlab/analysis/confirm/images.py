"""What the choice of test images adds to the error of an effect: from what each run scored on each of them.

Runs of one study share their test images, so the spread between seeds does not hold how much an effect would differ on
other images of the same kind. With the value of run k of arm a on image i = arm + run + image + arm × image + rest, the
variance of an effect d = Σ w_a ȳ_a over new runs *and* new images is, beside Σ w² s²/k of the runs,

    (var_i(d_i)/N − Σ w² σ²_rest/(kN))₊,

where d_i is the effect on image i alone: its spread over images, less what the rest, which s² holds already, adds to
it. Images of one group (a person, a font) count together: sums over a group take the place of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.contrasts import Estimates
from resnetlab.analysis.intervals import quantile, welch_df
from resnetlab.experiment.contributions import BY_PREDICTIONS

# By column, what each image adds to it: of these metrics it follows from the predictions, of others the table keeps it.
FROM_PREDICTIONS = {f"test_{name}": function for name, function in BY_PREDICTIONS.items()}


@dataclass(frozen=True)
class ImageTerm:
    """variance: (..., questions), of the images alone; NaN where it is not known. df: (questions,) groups less one."""

    variance: np.ndarray
    df: np.ndarray

    def widened(self, estimates: Estimates) -> Estimates:
        """The same estimates with the error that they have on new runs and new images; NaN where it is not known.

        A small part of many degrees of freedom can make Satterthwaite's interval a little narrower than it was: there
        the error stays as it was.
        """
        parts = np.stack(np.broadcast_arrays(estimates.standard_error**2, self.variance), axis=-1)
        dfs = np.stack(np.broadcast_arrays(estimates.df, self.df), axis=-1)
        error, df = np.sqrt(parts.sum(-1)), welch_df(parts, dfs)
        wider = quantile(df) * error > quantile(estimates.df) * estimates.standard_error
        known = np.where(np.isnan(error), np.nan, estimates.standard_error)
        return Estimates(estimates.estimate, np.where(wider, error, known), np.where(wider, df, estimates.df))


UNKNOWN = ImageTerm(np.array(np.nan), np.array(np.nan))


@dataclass(frozen=True)
class ImageScores:
    """What the runs of arms that were tested on the same images scored on each of them.

    rows: of the design. scores: (rows, seeds, images), whose mean over images is the run's metric; NaN for a run whose
    predictions were not kept. groups: (images,) numbers from 0 of what the images belong to, by default each to itself.
    """

    rows: np.ndarray
    scores: np.ndarray
    groups: np.ndarray

    @classmethod
    def of_array(cls, scores: np.ndarray, groups: np.ndarray | None = None) -> ImageScores:
        """Of all arms of a design: (arms, seeds, images)."""
        which = np.arange(scores.shape[-1]) if groups is None else np.unique(groups, return_inverse=True)[1]
        return cls(np.arange(len(scores)), scores, which)

    @property
    def count(self) -> int:
        """How many groups of images there are: images, where each is its own."""
        return int(self.groups.max()) + 1

    def term(self, weights: np.ndarray, used: np.ndarray) -> ImageTerm:
        """The images' part in the variance of each effect.

        weights: (questions, arms), NaN in the row of an effect that cannot be estimated. used: (arms, seeds), the runs
        that count. An effect of arms with a run whose scores are not known has no such part, nor has one of fewer than
        two groups.
        """
        known = ~np.isnan(self.scores[..., 0])
        counted = used[self.rows]
        runs = counted.sum(-1)
        there = np.where(counted[..., None] & known[..., None], self.scores, 0.0)
        means = there.sum(1) / np.maximum(runs, 1)[:, None]
        rest = self._rest(np.where(counted[..., None], self.scores, np.nan), means, runs)
        here = np.nan_to_num(weights)[:, self.rows]
        whole = np.isclose(np.abs(here).sum(-1), np.abs(np.nan_to_num(weights)).sum(-1))
        lacking = (counted & ~known).any(-1) | (runs == 0)
        answered = whole & ~np.isnan(weights).any(-1) & ~((here != 0) & lacking).any(-1) & (self.count > 1)
        variance = np.maximum(self._of_images(here @ means) - here**2 @ rest, 0.0)
        return ImageTerm(np.where(answered, variance, np.nan), np.full(len(weights), self.count - 1.0))

    def _of_images(self, values: np.ndarray) -> np.ndarray:
        """(..., images) -> (...): the squared standard error of their mean over groups of images."""
        centred = values - values.mean(-1, keepdims=True)
        if self.count < values.shape[-1]:
            sums = np.stack(
                [np.bincount(self.groups, row, self.count) for row in centred.reshape(-1, len(self.groups))]
            )
            centred = sums.reshape(*values.shape[:-1], self.count)
        return np.asarray((centred**2).sum(-1) * self.count / max(self.count - 1, 1) / values.shape[-1] ** 2)

    def _rest(self, scores: np.ndarray, means: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """(rows,): what the rest, each run's own luck with each image, adds to the spread of an arm's mean over
        images; 0, which errs on the wide side, where an arm has one run."""
        found = np.zeros(len(scores))
        for row in np.flatnonzero(runs > 1):
            mine = scores[row][~np.isnan(scores[row, :, 0])]
            left = mine - means[row] - mine.mean(-1, keepdims=True)  # its mean is taken out again, by images
            found[row] = self._of_images(left).sum() / (runs[row] * (runs[row] - 1))
        return found


def together(parts: Sequence[ImageScores], weights: np.ndarray, used: np.ndarray) -> ImageTerm:
    """The images' part in each effect, from the arms of whichever task it compares."""
    variance, df = np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    for part in parts:
        term = part.term(weights, used)
        mine = ~np.isnan(term.variance)
        variance[mine], df[mine] = term.variance[mine], term.df[mine]
    return ImageTerm(variance, df)


def from_predictions(
    places: Mapping[str, tuple[int, int]],
    shape: tuple[int, int],
    table: pd.DataFrame,
    metric: str,
    groups: Mapping[int, int] | None = None,
) -> list[ImageScores]:
    """The scores of runs that were tested on the same images: a part for each set of images.

    places: (design row, seed block) of each run by trial_id; shape: (arms, seeds) of the plan; table: rows of the
    predictions table; metric: the column that is confirmed; groups: by image number. None for a metric that neither
    the kept top-1 predictions nor the contributions give, and where one arm was tested on several sets of images.
    """
    if table.empty or not (metric in FROM_PREDICTIONS or table["contribution"].notna().any()):
        return []
    sets: dict[bytes, dict[tuple[int, int], np.ndarray]] = {}
    images: dict[bytes, np.ndarray] = {}
    for trial, mine in table[table["trial_id"].isin(places)].groupby("trial_id", sort=False):
        mine = mine.sort_values("image")
        number, label = mine["image"].to_numpy(), mine["label"].to_numpy()
        key = number.tobytes() + label.tobytes()
        images[key] = number
        scored = FROM_PREDICTIONS.get(metric)
        scores = mine["contribution"].to_numpy(float) if scored is None else scored(label, mine["predicted"].to_numpy())
        sets.setdefault(key, {})[places[str(trial)]] = scores
    rows = [row for found in sets.values() for row in {place[0] for place in found}]
    if len(set(rows)) < len(rows):
        return []  # splits that were drawn again for each block
    return [_part(found, shape[1], images[key], groups) for key, found in sets.items()]


def _part(
    found: Mapping[tuple[int, int], np.ndarray], seeds: int, images: np.ndarray, groups: Mapping[int, int] | None
) -> ImageScores:
    rows = sorted({row for row, _ in found})
    scores = np.full((len(rows), seeds, len(images)), np.nan)
    for (row, block), right in found.items():
        scores[rows.index(row), block] = right
    of = images if groups is None else np.array([groups.get(int(image), -1 - int(image)) for image in images])
    return ImageScores(np.array(rows), scores, np.unique(of, return_inverse=True)[1])
