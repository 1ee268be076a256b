"""Is the best strategy's lead more than the seeds' luck? Paired tests on the seeds that all share.

Strategies of one setting share their seeds, hence the partition, the cohorts and the initial
model, so results are paired by seed. The best is chosen by the same data that it is tested on.
Two statements allow for that, each at the given level:

- *ahead of all others*: the best against its closest rival, two-sided, without a correction. Hung
  and Fithian (2019), arXiv 1610.03944, prove for equal variances that this keeps the level however
  many strategies there are.
- *different from the best*, of one strategy: Holm's step-down correction (Holm, 1979) over all
  pairs of strategies, since any of them might have come out best.

How often both err together among equal strategies is measured in ``tests/analysis``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from math import ceil, inf, log2, nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.summarise import diverged, is_lower_better, last, per_seed, slim

TESTS = {"t": "paired t-test", "wilcoxon": "Wilcoxon signed-rank test"}

LEVEL = 0.05
"""Below this p a difference counts."""

LEAST_PAIRS = 3
"""Pairs that a test needs: two differences that happen to be nearly equal would prove anything."""

COLUMNS = ("label", "best", "n", "difference", "low", "high", "statistic", "p", "p_holm", "tie")


@dataclass(frozen=True)
class Comparison:
    """What can be said of the best strategy.

    Args:
        best: its label: the best mean over ``seeds``; None: it cannot be told.
        seeds: those that all rivals share.
        rows: a row per other strategy: label, best, n (common seeds), difference (mean of label
            minus best), low and high (Student's 95% interval of this pair alone), statistic, p (of
            the pair alone), p_holm (corrected over all pairs), tie (the test could reject and did
            not).
        ahead: the best differs from each of the others.
        closest: the largest p against any of them; NaN where one was not tested.
        caveats: what could not be tested and what it would take, a sentence each.
    """

    best: str | None = None
    seeds: tuple[Any, ...] = ()
    rows: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    ahead: bool = False
    closest: float = nan
    caveats: tuple[str, ...] = ()


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values.

    With p_(1) <= ... <= p_(m): adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).
    A NaN (no test was possible) stays NaN and does not count in m.
    """
    values = np.asarray(p, np.float64)
    out = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    out[order] = np.maximum.accumulate(np.minimum(1.0, factors * values[order]))
    return out


def paired(
    a: ArrayLike, b: ArrayLike, test: str = "t", resolution: float = 0.0
) -> tuple[float, float]:
    """Return (statistic, two-sided p) of a paired test of ``a`` against ``b``.

    Args:
        a: one value per seed.
        b: the values of the same seeds.
        test: ``t`` or ``wilcoxon``.
        resolution: the least standard deviation of the differences that is believed: accuracies
            are counted on a finite test set, and equal counts are no proof of equal luck.

    Returns:
        NaN for both with fewer than three pairs, and where all differences are equal, not zero,
        and no resolution is known. Where all are zero p is 1.
    """
    if test not in TESTS:
        raise ValueError(f"test: must be one of {sorted(TESTS)}, got {test!r}")
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"paired: values must be pairs, got shapes {x.shape} and {y.shape}")
    difference = x - y
    if len(difference) < LEAST_PAIRS:
        return nan, nan
    if not difference.any():
        return 0.0, 1.0
    if test == "wilcoxon":
        from scipy.stats import wilcoxon  # takes seconds to import

        result: Any = wilcoxon(x, y)
        return float(result.statistic), float(result.pvalue)
    error = standard_error(difference, resolution)
    if error == 0:
        return nan, nan
    statistic = float(difference.mean()) / error
    from scipy.special import stdtr

    return statistic, float(2 * stdtr(len(difference) - 1, -abs(statistic)))


def standard_error(difference: NDArray[np.float64], resolution: float = 0.0) -> float:
    """Return the standard error of a mean difference, whose deviation is at least ``resolution``.

    Zero where all differences are equal (but for rounding) and no resolution is known.
    """
    equal = np.ptp(difference) <= 1e-12 * np.abs(difference).max()
    deviation = 0.0 if equal else float(difference.std(ddof=1))
    return max(deviation, resolution) / sqrt(len(difference))


def interval(
    difference: NDArray[np.float64], resolution: float = 0.0, level: float = 0.95
) -> tuple[float, float]:
    """Return Student's interval of a mean difference; NaN with fewer than three pairs."""
    mean = float(difference.mean())
    if len(difference) < LEAST_PAIRS or not (error := standard_error(difference, resolution)):
        return (mean, mean) if len(difference) >= LEAST_PAIRS and not mean else (nan, nan)
    from scipy.special import stdtrit

    half = float(stdtrit(len(difference) - 1, 0.5 + level / 2)) * error
    return mean - half, mean + half


def compare(
    rounds: pd.DataFrame,
    metric: str = "server_accuracy",
    test: str = "t",
    level: float = LEVEL,
    resolution: float = 0.0,
) -> Comparison:
    """Choose the best label and compare the others with it, on the seeds that all have.

    Labels of which a run diverged have no final value to compare and take no part.

    Args:
        rounds: a row per run and round, of one setting, baselines left out.
        metric: the column whose last value counts.
        test: ``t`` or ``wilcoxon``.
        level: below this p a difference counts.
        resolution: see :func:`paired`.
    """
    if test not in TESTS:
        raise ValueError(f"test: must be one of {sorted(TESTS)}, got {test!r}")
    rounds = slim(rounds, metric)
    ends = per_seed(last(rounds, metric), [metric], ["label"])
    ends = ends[~ends["label"].isin(set(diverged(rounds)["label"]))]
    unit = "seed" if "seed" in ends else "run"
    grid = ends.pivot(index=unit, columns="label", values=metric)
    grid = grid[[c for c in grid.columns if grid[c].notna().any()]]
    grid.columns = grid.columns.astype(str)
    if not len(grid.columns):
        return Comparison()
    shared = grid.dropna()
    if shared.empty:
        return Comparison(caveats=("no seed was run with every strategy: none can be called best",))
    means = shared.mean()
    best = str(means.idxmin() if is_lower_better(metric) else means.idxmax())
    rows = _rows(shared, best, test, resolution)
    closest = float(rows["p"].max(skipna=False)) if len(rows) else nan
    ahead = bool(closest < level)
    rows["tie"] = (rows["p_holm"] >= level) & ~ahead
    caveats = []
    if text := powerless(len(shared), len(grid.columns), test, level, ahead):
        rows["tie"] = False  # What no result could have rejected is no tie.
        caveats.append(text)
    elif rows["p"].isna().any():
        caveats.append("seeds that differ by equal amounts leave nothing to test")
    return Comparison(best, tuple(shared.index), rows, ahead, closest, tuple(caveats))


def _rows(shared: pd.DataFrame, best: str, test: str, resolution: float) -> pd.DataFrame:
    """Return the rows of a :class:`Comparison` but for the ties."""
    values = {label: shared[label].to_numpy(np.float64) for label in shared.columns}
    pairs = list(combinations(values, 2))
    tested = [paired(values[a], values[b], test, resolution) for a, b in pairs]
    adjusted = holm([p for _, p in tested])
    rows = []
    for (a, b), (statistic, p), corrected in zip(pairs, tested, adjusted, strict=True):
        if best not in (a, b):
            continue
        other = b if a == best else a
        difference = values[other] - values[best]
        low, high = interval(difference, resolution)
        sign = -1.0 if test == "t" and other == b else 1.0
        mean = float(difference.mean())
        row = (other, best, len(shared), mean, low, high, sign * statistic, p, corrected)
        rows.append(dict(zip(COLUMNS, row, strict=False)))
    frame = pd.DataFrame(rows, columns=list(COLUMNS[:-1]))
    return frame.astype({c: float for c in COLUMNS[3:-1]})


def powerless(n: int, strategies: int, test: str, level: float, ahead: bool) -> str:
    """Say why a test could not have rejected, and how many seeds it would need; '' if it could."""
    if strategies < 2 or ahead:
        return ""
    if n < LEAST_PAIRS:
        return f"{n} common seed{'s'[: n != 1]} allow no test: it needs {LEAST_PAIRS}"
    needed = seeds_needed(strategies, test, level)
    if n >= needed:
        return ""
    return (
        f"the {TESTS[test]} cannot tell single strategies apart with {n} common seeds, whatever "
        f"their results: among {strategies} strategies it needs {needed}"
    )


def seeds_needed(strategies: int, test: str, level: float = LEVEL) -> int:
    """Return how many common seeds a test needs to reject a single pair after the correction.

    The smallest p of the signed-rank test with n pairs is 2^(1-n); Holm multiplies it by the number
    of pairs of strategies.
    """
    if test == "t":
        return LEAST_PAIRS
    pairs = max(1, strategies * (strategies - 1) // 2)
    needed = max(LEAST_PAIRS, ceil(1 + log2(pairs / level)))
    return needed if pairs * 2.0 ** (1 - needed) < level else needed + 1


def resolution_of(counts: Any) -> float:
    """Return the step of an accuracy that was counted on so many examples; 0: nobody knows."""
    known = [1 / c for c in counts if c]
    return max(known, default=0.0) if known and min(known) < inf else 0.0
