"""Do intervals hold on new images? Simulated confirm stages in which each repeat draws other runs *and* other images.

Run k of arm a has image i right where m_a + image + arm × image + run + rest > 0, all normal. The part of arm × image
belongs to levels of factors, as far as the design crosses them: an image that suits kernel 5 does so in every arm that
has it. So the true accuracies are known: Φ(m_a / sd of the sum). With splits that are drawn again (`redrawn`), each
block of seeds has images of its own, and the interval over seeds is the one over splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from resnetlab.analysis.confirm.contrasts import CellMeans, Estimates
from resnetlab.analysis.confirm.effects import analyse
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.analysis.confirm.images import ImageScores, ImageTerm
from resnetlab.calibration.error_rates import simulated_plan
from resnetlab.calibration.table import goals, reached, write_files
from resnetlab.study.seeding import stream

BASE = 0.85  # accuracy of the incumbent
SHIFT = 0.10  # of kernel 5, in standard deviations of the sum
ALLOWED = (0.93, 0.97)  # coverage of a 95% interval on new images
FEWEST = 2  # seeds
RUN = 0.03  # sd between runs, of the same; between seeds about 0.7 points


@dataclass(frozen=True)
class ImageWorld:
    """design, seeds: of the plan; images: tested; of_level, rest: sd of a level's luck with an image, and of a run's.
    group: so many images are alike in what suits them. redrawn: each block of seeds has other test
    images. variance: of the plan."""

    design: str
    seeds: int
    images: int
    of_level: float = 0.3
    rest: float = 0.5
    group: int = 1
    redrawn: bool = False
    variance: str = "arms"


WORLDS = (
    ImageWorld("one-factor", 2, 1241),
    ImageWorld("one-factor", 5, 500),
    ImageWorld("one-factor", 23, 500),
    ImageWorld("fractional", 2, 1241),
    ImageWorld("fractional", 5, 270),
    ImageWorld("one-factor", 5, 500, of_level=0.0),
    ImageWorld("one-factor", 5, 1000, group=10),
    *(
        ImageWorld(design, seeds, images, redrawn=True, variance=variance)
        for variance in ("arms", "blocks")
        for design, seeds, images in (("one-factor", 2, 1241), ("one-factor", 5, 500), ("fractional", 5, 270))
    ),
)


def measure_images(world: ImageWorld, repeats: int, seed: int = 0) -> list[dict[str, Any]]:
    """Coverage of the 95% intervals of effects and arm means in `repeats` stages, fractions; a row for each of both.

    these, new: of the two intervals; ungrouped: of that on new images where groups are not known; wider: by how much
    the interval on new images is wider, at the median; splits: of the only interval where the splits are redrawn.
    """
    plan = simulated_plan(world.design, world.seeds).model_copy(update={"variance": world.variance})
    asked = estimands(plan)
    swaps = asked.of_kind("swap", "main")
    weights = asked.weights(np.ones(len(plan.arms), dtype=bool))[swaps]
    mean = stats.norm.ppf(BASE) + SHIFT * np.array([arm.values["kernel"] == 5 for arm in plan.arms])
    truth = stats.norm.cdf(mean)
    tallies: dict[str, list[Any]] = {"effects": [], "arm means": []}
    rng = np.random.default_rng(stream(seed, "new images", repr(world)))
    for right in _stages(world, plan.arms, mean, repeats, rng):
        values = right.mean(-1)
        used, groups = np.ones(values.shape, dtype=bool), np.arange(world.images) // world.group
        for what, w in (("effects", weights), ("arm means", np.eye(len(mean)))):
            known = () if world.redrawn else (groups, None)
            terms = [ImageScores.of_array(right, one).term(w, used) for one in known]
            if what == "effects":
                these = analyse(asked, values[None], plan.alpha, plan.least_effect).these
                these = Estimates(*(x[0, swaps] for x in (these.estimate, these.standard_error, these.df)))
            else:
                cells = CellMeans.of(values)
                these = Estimates(cells.mean, np.sqrt(cells.variance / cells.n), cells.df)
            tallies[what].append(_counted(these, terms, w @ truth))
    return [_row(world, repeats, what, np.array(found)) for what, found in tallies.items()]


def _stages(
    world: ImageWorld, arms: Any, mean: np.ndarray, repeats: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """(arms, seeds, images), 1 where the run has the image right."""
    names = list(arms[0].values)
    levels = sorted({(name, str(arm.values[name])) for arm in arms for name in names})
    holds = np.array([[str(arm.values[name]) == level for name, level in levels] for arm in arms], dtype=float)
    own = world.of_level / np.sqrt(len(names))
    image = np.sqrt(1 - world.of_level**2 - RUN**2 - world.rest**2)
    groups, which = -(-world.images // world.group), np.arange(world.images) // world.group
    draws = world.seeds if world.redrawn else 1
    for _ in range(repeats):
        suits = own * rng.standard_normal((len(levels), draws, groups))[..., which]
        shared = image * rng.standard_normal((draws, groups))[:, which]
        run = RUN * rng.standard_normal((len(arms), world.seeds, 1))
        rest = world.rest * rng.standard_normal((len(arms), world.seeds, world.images), dtype=np.float32)
        luck = np.tensordot(holds, suits, 1) + shared  # (arms, draws, images)
        yield (mean[:, None, None] + luck + run + rest > 0).astype(float)


def _counted(these: Estimates, terms: list[ImageTerm], truth: np.ndarray) -> np.ndarray:
    """(1, questions), or (4, questions) with terms: whether each interval holds the truth, and how much wider the one
    on new images is."""
    found = [these, *(term.widened(these) for term in terms)]
    ends = [one.interval() for one in found]
    held = [(low <= truth) & (truth <= high) for low, high in ends]
    widths = [high - low for low, high in ends]
    with np.errstate(divide="ignore", invalid="ignore"):  # runs that agree to the last image
        return np.array([*held, widths[1] / widths[0]] if terms else held)


def _row(world: ImageWorld, repeats: int, what: str, found: np.ndarray) -> dict[str, Any]:
    row = {
        "design": world.design, "seeds": world.seeds, "images": world.images, "of_level": world.of_level,
        "group": world.group, "what": what, "repeats": repeats,
    }  # fmt: skip
    if world.redrawn:
        return row | {"variance": world.variance, "splits": round(float(found.mean()), 4)}
    these, new, ungrouped = found[:, :3].mean((0, 2))
    row |= {"these": round(float(these), 4), "new": round(float(new), 4)}
    row |= {"wider": round(float(np.nanmedian(found[:, 3])), 3)}
    return row | ({"ungrouped": round(float(ungrouped), 4)} if world.group > 1 else {})


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    head = ["design", "k", "test images", "what", "on these test images", "on new images", "wider by", "repeats"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        images = f"{row['images']:,}" + (f" in groups of {row['group']}" if row["group"] > 1 else "")
        images += "" if row["of_level"] else ", arms alike in which images they suit"
        images += f", others for each block of seeds, variance: {row['variance']}" if "splits" in row else ""
        these = f"{100 * row['these']:.1f}" if "these" in row else "–"
        wider = f"{100 * (row['wider'] - 1):.0f}%" if "wider" in row else "–"
        new = f"{100 * row['splits']:.1f} (seeds alone)" if "splits" in row else f"{100 * row['new']:.1f}"
        new += f" ({100 * row['ungrouped']:.1f} without groups)" if "ungrouped" in row else ""
        cells = [row["design"], row["seeds"], images, row["what"], these, new, wider, f"{row['repeats']:,}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def targets(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Coverage on new images, and over splits that are drawn again, of effects and of arm means: each held to
    93 to 97%."""
    found = []
    for what in ("effects", "arm means"):
        mine = [row for row in rows if row["what"] == what]
        for few in (True, False):
            some = [row for row in mine if "new" in row and (row["seeds"] == FEWEST) == few]
            name = f"coverage on new images, {what}, {f'k = {FEWEST}' if few else f'k > {FEWEST}'}"
            found += [reached(name, [row["new"] for row in some], *ALLOWED, some)] if some else []
        for variance in ("arms", "blocks"):
            some = [row for row in mine if row.get("variance") == variance]
            name = f"coverage over splits drawn again, {what}, variance: {variance}"
            found += [reached(name, [row["splits"] for row in some], *ALLOWED, some)] if some else []
    return found


def write(place: Path, about: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> Path:
    """Write `place`/new-images.json and new-images.md; returns the latter."""
    content = {**about, "rows": list(rows), "targets": targets(rows)}
    parts = [
        "# Intervals on new images",
        f"Simulated (`python sweeps/calibrate.py --only new-images --repeats {min(row['repeats'] for row in rows)}`): "
        "each repeat draws other runs and other test images. Coverage of 95% intervals in percent. Others for each "
        "block of seeds: `confirm.splits: per-block`, where the interval over seeds is the only one.",
        "## Targets",
        goals(content["targets"]),
        "## All lines",
        table(list(rows)),
    ]
    return write_files(place, "new-images", content, "\n\n".join(parts) + "\n")
