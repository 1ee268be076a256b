"""Pure functions from tidy frames to statistics over seeds.

Every function takes the frame of :attr:`analysis.Runs.rounds` (a row per run and round) and
returns a new frame. Seeds are the repetitions: a mean is over seeds, n is how many there were.
Runs that repeat a seed (on another number of workers, say) are averaged first: they are no
further evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BANDS = {
    "ci": "95% CI",
    "se": "standard error",
    "sd": "standard deviation",
    "minmax": "range",
}
"""The kinds of band over seeds, and what a figure calls them."""

DIVERGED = "diverged"
"""The status of a run that ended because its model or its loss was no longer finite."""

KEYS = ("run", "label", "strategy", "seed", "setting", "mode", "status", "round")
"""The columns of a run and round that statistics go by."""

LOWER_IS_BETTER = (
    "loss", "error", "mae", "mse", "crossentropy", "divergence", "poisson", "log_cosh", "logcosh",
    "huber", "hinge", "perplexity",
    "seconds", "bytes", "attack_success",
)  # fmt: skip
"""Words in the names of columns of which less is better."""


def is_lower_better(metric: str) -> bool:
    """Tell whether smaller values of ``metric`` are better (losses, times, bytes)."""
    return any(word in metric for word in LOWER_IS_BETTER)


def check_columns(frame: pd.DataFrame, *columns: str) -> None:
    """Raise a ValueError that names the first of ``columns`` which ``frame`` lacks."""
    for column in columns:
        if column not in frame.columns:
            raise ValueError(f"frame: column {column!r} is missing, got {list(frame.columns)}")


def check_baseline(labels: Iterable[str], baseline: str) -> None:
    """Raise a ValueError unless ``baseline`` is among the labels."""
    if baseline not in (known := sorted(set(labels))):
        raise ValueError(f"baseline: must be one of {known}, got {baseline!r}")


def check_settings(frame: pd.DataFrame, function: str, by: Sequence[str]) -> None:
    """Raise a ValueError if a group ``by`` would average federated runs of several settings.

    Centralised training may belong to several settings: it is no mixture.
    """
    if not {"setting", *by} <= set(frame.columns):
        return
    rows = frame[frame["mode"] != "centralised"] if "mode" in frame else frame
    keys = list(dict.fromkeys([*by, "setting"]))
    groups = rows[keys].drop_duplicates().groupby(list(by), observed=True, sort=False, dropna=False)
    names = next((sorted(map(str, g["setting"])) for _, g in groups if len(g) > 1), None)
    if names is not None:
        raise ValueError(
            f"{function}: the frame mixes {len(names)} settings ({'; '.join(names[:3])}); "
            "choose one with Runs.at(setting), or group Runs.by_setting by=('setting', 'label')"
        )


def spread(frame: pd.DataFrame, value: str, by: Sequence[str], level: float = 0.95) -> pd.DataFrame:
    """Return mean, std (n-1), se, low, high, min, max and n of ``value`` for each group ``by``.

    ``low`` and ``high`` bound Student's t interval of the mean at ``level``. With one value
    std, se and the interval are NaN.
    """
    from scipy.special import stdtrit  # not of scipy.stats, which takes seconds to import

    check_columns(frame, value, *by)
    groups = frame.groupby(list(by), observed=True, sort=False, dropna=False)[value]
    out = groups.agg(["mean", "std", "min", "max", "count"]).rename(columns={"count": "n"})
    freedom = out["n"].where(out["n"] > 1) - 1.0
    out["se"] = out["std"] / np.sqrt(out["n"])
    half = stdtrit(freedom, 0.5 + level / 2) * out["se"]
    out["low"], out["high"] = out["mean"] - half, out["mean"] + half
    return out[["mean", "std", "se", "low", "high", "min", "max", "n"]].reset_index()


def per_seed(frame: pd.DataFrame, values: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """Return the mean of ``values`` for each group ``by`` and seed (each run without seeds)."""
    unit = "seed" if "seed" in frame else "run"
    check_columns(frame, unit, *by, *values)
    keys = list(dict.fromkeys([*by, unit]))
    groups = frame.groupby(keys, observed=True, sort=False, dropna=False)[list(values)]
    return groups.mean().reset_index()


def run_keys(rounds: pd.DataFrame) -> list[str]:
    """Return what tells runs apart: a centralised one counts in each setting that it belongs to."""
    return [c for c in ("run", "setting") if c in rounds]


def slim(rounds: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return what tells rows apart and ``columns``: masks copy what a frame has, all of it."""
    wanted = dict.fromkeys((*KEYS, *columns))
    return rounds[[c for c in wanted if c in rounds]]


def last(rounds: pd.DataFrame, metric: str = "server_accuracy") -> pd.DataFrame:
    """Return each run's last row in which ``metric`` was measured."""
    check_columns(rounds, "run", "round", metric)
    keys = run_keys(rounds)
    places = rounds[[*keys, "round"]].reset_index(drop=True)  # few columns: they are sorted
    measured = places[rounds[metric].notna().to_numpy()].sort_values("round", kind="stable")
    ends = measured.groupby(keys, observed=True, sort=False).tail(1).index.sort_values()
    return rounds.iloc[ends].reset_index(drop=True)


def settled(rounds: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the runs that did not diverge."""
    return rounds[rounds["status"] != DIVERGED] if "status" in rounds else rounds


def diverged(rounds: pd.DataFrame, by: Sequence[str] = ("label",)) -> pd.DataFrame:
    """Return how many seeds of each group ``by`` diverged, of how many.

    Returns:
        Columns ``by``, diverged, seeds: a row per group in which a run diverged.
    """
    unit = "seed" if "seed" in rounds else "run"
    if "status" not in rounds:
        return pd.DataFrame({c: [] for c in (*by, "diverged", "seeds")})
    runs = rounds[list(dict.fromkeys([*by, unit, "run", "status"]))].drop_duplicates()
    runs = runs.assign(diverged=runs["status"] == DIVERGED)
    seeds = runs.groupby(list(dict.fromkeys([*by, unit])), observed=True)["diverged"].any()
    groups = seeds.groupby(list(by), observed=True)
    out = groups.agg(diverged="sum", seeds="size").reset_index()
    return out[out["diverged"] > 0].reset_index(drop=True)


def final(
    rounds: pd.DataFrame,
    metric: str = "server_accuracy",
    by: Sequence[str] = ("label",),
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the statistics of :func:`spread` of each run's final ``metric``.

    Where a run of a group diverged, the others would be a flattering choice: the group's statistics
    are NaN. ``diverged`` counts its seeds that did, of ``seeds``; n are those that have a value.

    Raises:
        ValueError: the frame lacks a column, or a group holds runs of several settings.
    """
    check_settings(rounds, "final", by)
    rounds = slim(rounds, metric, *by)
    ends = last(settled(rounds), metric)
    out = spread(per_seed(ends, [metric], by), metric, by, level)
    out[list(by)] = out[list(by)].astype(object)
    lost = diverged(rounds, by)
    lost[list(by)] = lost[list(by)].astype(object)
    out = out.merge(lost, on=list(by), how="outer" if len(lost) else "left", sort=False)
    counts = {"n": 0, "diverged": 0}
    out = out.fillna(counts).astype({"n": int, "diverged": int})
    out["seeds"] = out["seeds"].fillna(out["n"]).astype(int)
    numbers = ["mean", "std", "se", "low", "high", "min", "max"]
    out.loc[out["diverged"] > 0, numbers] = np.nan
    return out


def best(rounds: pd.DataFrame, metric: str = "server_accuracy") -> pd.DataFrame:
    """Return each run's row with its best ``metric`` (highest, or lowest of a loss); first of ties.

    Picking the round on test data is optimistic: use it to describe a curve, not to compare.
    """
    check_columns(rounds, "run", "round", metric)
    few = slim(rounds, metric)
    measured = few[few[metric].notna()].sort_values(["round"], kind="stable")
    groups = measured.groupby(run_keys(rounds), observed=True, sort=False)[metric]
    rows = groups.idxmin() if is_lower_better(metric) else groups.idxmax()
    return rounds.loc[rows.to_numpy()].reset_index(drop=True)


def until_divergence(rounds: pd.DataFrame, by: Sequence[str] = ("label",)) -> pd.DataFrame:
    """Return the rounds of each group ``by`` up to the last one of its first run to diverge."""
    if "status" not in rounds or not (ends := rounds["status"] == DIVERGED).any():
        return rounds
    keys = list(by)
    lasts = rounds[ends].groupby([*keys, "run"], observed=True)["round"].max()
    limits = lasts.groupby(keys, observed=True).min().rename("limit").reset_index()
    places = (
        rounds[keys].astype(object).merge(limits.astype({k: object for k in keys}), "left", keys)
    )
    limit = places["limit"].fillna(np.inf).to_numpy(float)
    return rounds[rounds["round"].to_numpy(float) <= limit]


def curve(
    rounds: pd.DataFrame,
    metric: str = "server_accuracy",
    x: str = "round",
    by: Sequence[str] = ("label",),
    band: str = "ci",
) -> pd.DataFrame:
    """Return mean and band over seeds of ``metric`` at each round, for each group.

    Where ``x`` is not the round (elapsed seconds, bytes), a point stands at the mean ``x`` that
    the seeds had reached after that round. Where a run of a group diverged, the curve ends with
    its last round: what follows would be the mean of those that went well.

    Args:
        rounds: a row per run and round.
        metric: the column on the vertical axis.
        x: the column on the horizontal axis.
        by: the columns that make a curve.
        band: one of :data:`BANDS`.

    Returns:
        Columns ``by``, round, x, mean, low, high, n; low and high equal the mean for one seed.
    """
    if band not in BANDS:
        raise ValueError(f"band: must be one of {sorted(BANDS)}, got {band!r}")
    check_columns(rounds, "round", x, metric, *by)
    check_settings(rounds, "curve", by)
    rounds = slim(rounds, metric, x, *by)
    rounds = until_divergence(rounds, by)
    measured = rounds[rounds[metric].notna() & rounds[x].notna()]
    keys = [*by, "round"]
    measured = per_seed(measured, list(dict.fromkeys([metric, *({x} - {"round"})])), keys)
    out = spread(measured, metric, keys)
    if band == "minmax":
        out["low"], out["high"] = out["min"], out["max"]
    elif band in ("se", "sd"):
        half = out["se" if band == "se" else "std"]
        out["low"], out["high"] = out["mean"] - half, out["mean"] + half
    out["low"], out["high"] = out["low"].fillna(out["mean"]), out["high"].fillna(out["mean"])
    if x != "round":
        places = measured.groupby(keys, observed=True, sort=False, dropna=False)[x].mean()
        out = out.merge(places.reset_index(), on=keys)
    columns = list(dict.fromkeys([*keys, x, "mean", "low", "high", "n"]))
    return out[columns].sort_values(keys, kind="stable").reset_index(drop=True)


def to_target(
    rounds: pd.DataFrame, target: float, metric: str = "server_accuracy", cost: str = "round"
) -> pd.DataFrame:
    """Return what each run spent until ``metric`` first reached ``target``; inf: not reached.

    A run that diverged has nothing to show for it: it counts as not reached, wherever it was
    before.

    Args:
        rounds: a row per run and round.
        target: the value to reach (from below; from above for a loss).
        metric: the column that has to reach it.
        cost: what is counted: ``round``, ``elapsed``, ``bytes_total`` or ``examples_total``.

    Returns:
        A row per run: run, label, strategy, seed (where the frame has them), ``cost``.
    """
    check_columns(rounds, "run", "round", metric, cost)
    rounds = slim(rounds, metric, cost)
    kept = settled(rounds)
    values = kept[metric]
    reached = kept[(values <= target) if is_lower_better(metric) else (values >= target)]
    first = reached.groupby("run", observed=True)[cost].min()
    about = [c for c in ("run", "label", "strategy", "seed", "setting", "mode") if c in rounds]
    runs = rounds[about].drop_duplicates(run_keys(rounds)).reset_index(drop=True)
    spent = runs["run"].astype(object).map(first).astype(float)
    return runs.assign(**{cost: spent.fillna(np.inf)})


def rounds_to_target(
    rounds: pd.DataFrame,
    target: float,
    metric: str = "server_accuracy",
    by: Sequence[str] = ("label",),
    baseline: str | None = None,
    cost: str = "round",
) -> pd.DataFrame:
    """Return the median cost over seeds to reach ``target``, and the speed-up over ``baseline``.

    A seed that does not get there counts as infinite, so the median is infinite (not reached)
    once half of the seeds fail; failures are never dropped from the statistic.
    Speed-up = the baseline's median / the label's median, over the seeds that both have, in the
    same group otherwise.

    Returns:
        Columns ``by``, median, low, high (fastest and slowest seed), reached, n, speedup.
    """
    check_settings(rounds, "rounds_to_target", by)
    spent = per_seed(to_target(rounds, target, metric, cost), [cost], by)
    groups = spent.groupby(list(by), observed=True, sort=False, dropna=False)[cost]
    out = groups.agg(
        median="median",
        low="min",
        high="max",
        reached=lambda v: int(np.isfinite(v).sum()),
        n="size",
    ).reset_index()
    out["speedup"] = np.nan
    if baseline is not None:
        check_baseline(spent["label"], baseline)
        out["speedup"] = speed_up(spent, out, by, baseline, cost)
    return out


def speed_up(
    spent: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str], baseline: str, cost: str
) -> NDArray[np.float64]:
    """Return the baseline's median over that of each row, both over the seeds that they share.

    NaN where one of the medians is not finite: infinity over a number says only "at least".
    """
    unit = "seed" if "seed" in spent else "run"
    keys = [c for c in by if c != "label"]
    base = spent[spent["label"] == baseline]
    both = spent.merge(base, on=[*keys, unit], suffixes=("", "_base"))
    medians = both.groupby(list(by), observed=True)[[cost, f"{cost}_base"]].median().reset_index()
    found = rows[list(by)].astype(object).merge(medians, on=list(by), how="left")
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = found[f"{cost}_base"].to_numpy(float) / found[cost].to_numpy(float)
    return np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)


def default_target(rounds: pd.DataFrame, metric: str = "server_accuracy") -> float:
    """Return a target most strategies reach: 95% of the median final value, in whole percents.

    The median is over the strategies of all settings. Deterministic and stated in every caption;
    pass your own where a paper has one.
    """
    rows = rounds[rounds["mode"] == "federated"] if "mode" in rounds else rounds
    values = final(rows, metric, ["setting", "label"] if "setting" in rows else ["label"])
    return float(np.floor(95 * values["mean"].median()) / 100)


def ranks(
    rounds: pd.DataFrame, metric: str = "server_accuracy", blocks: Sequence[str] = ("setting",)
) -> pd.DataFrame:
    """Return each label's mean rank (1 is best, ties share the mean rank) over blocks.

    A label's value in a block is its mean final ``metric`` over the seeds that all labels have
    there; blocks that lack a label are left out, so that all ranks are over the same blocks
    (Demšar, 2006, JMLR 7). A label of which a run diverged ranks last in its block.

    Returns:
        Columns label, rank, blocks; the best first.
    """
    keys, lowest = list(blocks), is_lower_better(metric)
    check_settings(rounds, "ranks", [*keys, "label"])
    rounds = slim(rounds, metric, *keys)
    unit = "seed" if "seed" in rounds else "run"
    ends = per_seed(last(settled(rounds), metric), [metric], [*keys, "label"])
    lost = diverged(rounds, [*keys, "label"])
    failed = (
        lost[[*keys, "label"]]
        .astype(object)
        .merge(ends[[*keys, unit]].astype(object).drop_duplicates(), on=keys)
    )
    worst = failed.assign(**{metric: np.inf if lowest else -np.inf})
    whole = pd.concat([ends.astype({c: object for c in (*keys, "label")}), worst])
    whole = whole.drop_duplicates([*keys, unit, "label"], keep="last")
    grid = whole.pivot_table(
        index=[*keys, unit], columns="label", values=metric, observed=True, dropna=False
    ).dropna()
    means = grid.groupby(level=list(range(len(keys)))).mean()
    order = means.rank(axis=1, ascending=lowest)
    out = pd.DataFrame({"label": order.columns.astype(str), "rank": order.mean().to_numpy()})
    return out.assign(blocks=len(means)).sort_values("rank", kind="stable").reset_index(drop=True)
