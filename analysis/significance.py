"""Paired tests over seeds: is the best strategy's lead more than the seeds' luck?

Strategies of one setting share their seeds, hence the partition, the cohorts and the initial
model, so results are paired by seed. Several comparisons with the best are corrected by Holm's
step-down method (Holm, 1979); see Demšar (2006, JMLR 7) for the use of the Wilcoxon test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.summarise import is_lower_better, last, per_seed

TESTS = {"t": "paired t-test", "wilcoxon": "Wilcoxon signed-rank test"}


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


def paired(a: ArrayLike, b: ArrayLike, test: str = "t") -> tuple[float, float]:
    """Return (statistic, two-sided p) of a paired test of ``a`` against ``b``.

    Args:
        a: one value per seed.
        b: the values of the same seeds.
        test: ``t`` or ``wilcoxon``. With n pairs Wilcoxon's p is at least 2^(1-n): it needs six
            seeds to come below 0.05.

    Returns:
        NaN for both with fewer than two pairs. Where all differences are zero p is 1; where
        they are equal and not zero, the t statistic is infinite and p is 0.
    """
    if test not in TESTS:
        raise ValueError(f"test: must be one of {sorted(TESTS)}, got {test!r}")
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"paired: values must be pairs, got shapes {x.shape} and {y.shape}")
    difference = x - y
    if len(difference) < 2:
        return float("nan"), float("nan")
    if not difference.any():
        return 0.0, 1.0
    if test == "wilcoxon":
        result: Any = stats.wilcoxon(x, y)
    elif np.ptp(difference) <= 1e-12 * np.abs(difference).max():  # equal but for rounding
        return float(np.copysign(np.inf, difference[0])), 0.0
    else:
        result = stats.ttest_rel(x, y)
    return float(result.statistic), float(result.pvalue)


def against_best(
    rounds: pd.DataFrame,
    metric: str = "server_accuracy",
    test: str = "t",
    level: float = 0.05,
) -> pd.DataFrame:
    """Compare every label with the best one, over the seeds that both have.

    Args:
        rounds: a row per run and round, of one setting, baselines left out.
        metric: the column whose last value counts.
        test: ``t`` or ``wilcoxon``.
        level: below this adjusted p a difference counts.

    Returns:
        A row per label other than the best: label, best, n (pairs), difference (mean of label
        minus best), statistic, p, p_holm, tie (the difference does not count). Without two
        common seeds there is no test: p is NaN and tie is false.
    """
    ends = per_seed(last(rounds, metric), [metric], ["label"])
    unit = "seed" if "seed" in ends else "run"
    grid = ends.pivot(index=unit, columns="label", values=metric)
    means = grid.mean()
    best = means.idxmin() if is_lower_better(metric) else means.idxmax()
    rows = []
    for label in [c for c in grid.columns if c != best]:
        pairs = grid[[label, best]].dropna()
        statistic, p = paired(pairs[label], pairs[best], test)
        rows.append(
            {
                "label": str(label),
                "best": str(best),
                "n": len(pairs),
                "difference": float((pairs[label] - pairs[best]).mean()),
                "statistic": statistic,
                "p": p,
            }
        )
    columns = ["label", "best", "n", "difference", "statistic", "p"]
    out = pd.DataFrame(rows, columns=columns)
    adjusted = holm(out["p"].to_numpy(float))
    return out.assign(p_holm=adjusted, tie=adjusted >= level)
