import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.significance import compare, holm, paired, seeds_needed


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_procedure(p: list[float]) -> None:
    adjusted = holm(p)
    m, running = len(p), 0.0
    for step, i in enumerate(sorted(range(m), key=lambda i: p[i])):
        running = max(running, min(1.0, (m - step) * p[i]))
        assert adjusted[i] == running


def test_holm_leaves_out_what_was_not_tested() -> None:
    np.testing.assert_array_equal(holm([0.01, np.nan, 0.04]), [2 * 0.01, np.nan, 0.04])


@pytest.mark.parametrize("n", [3, 5, 12])
def test_paired_tests_are_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(0, 1, n), rng.normal(0.4, 1, n)
    assert paired(a, b, "t") == pytest.approx(tuple(stats.ttest_rel(a, b)), rel=1e-12)
    assert paired(a, b, "wilcoxon") == tuple(stats.wilcoxon(a, b))


def test_the_t_statistic_by_hand() -> None:
    a, b = np.array([0.80, 0.83, 0.81]), np.array([0.82, 0.84, 0.86])
    d = a - b
    t = d.mean() / (d.std(ddof=1) / np.sqrt(3))
    assert paired(a, b) == pytest.approx((t, 2 * stats.t.sf(abs(t), 2)))


@pytest.mark.parametrize("test", ["t", "wilcoxon"])
def test_edges(test: str) -> None:
    assert np.isnan(paired([0.5], [0.4], test)).all()
    assert np.isnan(paired([0.5, 0.6], [0.4, 0.7], test)).all()  # two pairs prove nothing
    assert paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], test) == (0.0, 1.0)


def test_equal_differences_are_as_uncertain_as_one_test_example() -> None:
    a, b = [0.76, 0.75, 0.79], [0.75, 0.74, 0.78]
    assert np.isnan(paired(a, b)).all()  # nobody knows on how many examples
    t = 0.01 / (0.01 / np.sqrt(3))  # one example of 100
    assert paired(a, b, resolution=0.01) == pytest.approx((t, 2 * stats.t.sf(t, 2)))
    out = compare(made(a=dict(enumerate(a)), b=dict(enumerate(b))), resolution=0.01).rows
    assert out["p"][0] > 0.05 and out["tie"][0]
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert [out["low"][0], out["high"][0]] == pytest.approx([-0.01 - half, -0.01 + half])


def test_bad_arguments_are_named() -> None:
    message = "test: must be one of ['t', 'wilcoxon'], got 'anova'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        paired([1, 2], [2, 1], "anova")
    with pytest.raises(ValueError, match=r"^paired: values must be pairs, got shapes \(2,\) and"):
        paired([1, 2], [2, 1, 3])


def made(metric: str = "server_accuracy", **finals: dict[int, float]) -> pd.DataFrame:
    rows = [
        {"run": f"{label}{seed}", "label": label, "seed": seed, "round": 9, metric: value}
        for label, seeds in finals.items()
        for seed, value in seeds.items()
    ]
    return pd.DataFrame(rows)


def test_all_are_compared_on_the_seeds_that_all_have() -> None:
    a = {0: 0.80, 1: 0.82, 2: 0.81, 3: 0.85}
    b = {3: 0.79, 2: 0.74, 1: 0.77, 9: 0.10}
    c = {0: 0.905, 1: 0.80, 2: 0.82, 3: 0.84}
    one = compare(made(a=a, b=b, c=c))
    out = one.rows.set_index("label")
    assert one.seeds == (1, 2, 3) and set(out["best"]) == {"a"}
    assert (out["n"] == 3).all()
    x, y, z = ([f[s] for s in one.seeds] for f in (a, b, c))
    raw = [stats.ttest_rel(*pair).pvalue for pair in ((y, x), (z, x), (y, z))]
    assert out["p"].tolist() == pytest.approx(raw[:2], rel=1e-12)
    assert out["p_holm"].tolist() == pytest.approx(holm(raw)[:2].tolist(), rel=1e-12)
    assert out["difference"]["c"] == pytest.approx(np.mean(z) - np.mean(x))
    gap = np.subtract(z, x)
    half = stats.t.ppf(0.975, 2) * gap.std(ddof=1) / np.sqrt(3)
    assert out["high"]["c"] == pytest.approx(gap.mean() + half)
    assert out["tie"].to_dict() == {"b": False, "c": True} and not one.ahead


def test_a_lucky_pair_of_seeds_makes_nobody_best() -> None:
    few = {0: 0.85, 1: 0.90}
    many = {0: 0.862, 1: 0.911, 2: 0.80, 3: 0.81, 4: 0.82}
    one = compare(made(FedAdam=few, FedAvg=many))
    assert np.mean(list(few.values())) > np.mean(list(many.values()))
    assert one.best == "FedAvg" and one.seeds == (0, 1) and not one.ahead
    assert one.caveats == ("2 common seeds allow no test: it needs 3",)
    apart = compare(made(FedAdam={7: 0.9}, FedAvg=many))
    assert apart.best is None
    assert apart.caveats == ("no seed was run with every strategy: none can be called best",)


def test_the_best_loss_is_the_lowest_and_one_seed_gives_no_test() -> None:
    out = compare(made("server_loss", a={0: 0.5}, b={0: 0.4}), "server_loss").rows
    assert out["best"].tolist() == ["b"]
    assert out["p"].isna().all()
    assert not out["tie"].any()


def test_what_no_result_could_reject_is_no_tie() -> None:
    rng = np.random.default_rng(3)
    tops = {"a": 0.952, "b": 0.507, "c": 0.105}
    finals = {x: dict(enumerate(m + rng.normal(0, 0.01, 6))) for x, m in tops.items()}
    one = compare(made(**finals), test="wilcoxon")
    assert one.closest == 2.0**-5 and one.ahead and not one.rows["tie"].any()
    finals["b"][0] = 0.999  # five of six: the signed-rank test of this pair does not reject
    one = compare(made(**finals), test="wilcoxon")
    assert not one.ahead and not one.rows["tie"].any()
    assert one.caveats == (
        "the Wilcoxon signed-rank test cannot tell single strategies apart with 6 common seeds, "
        "whatever their results: among 3 strategies it needs 7",
    )
    for strategies in (2, 3, 10):
        n, pairs = seeds_needed(strategies, "wilcoxon"), strategies * (strategies - 1) // 2
        assert pairs * 2.0 ** (1 - n) < 0.05 <= pairs * 2.0 ** (2 - n)


def test_a_strategy_that_diverged_is_not_compared() -> None:
    frame = made(a={0: 0.8, 1: 0.8, 2: 0.8}, b={0: 0.9, 1: 0.9, 2: 0.9}, c={0: 0.7, 1: 0.6, 2: 0.5})
    frame["status"] = np.where(frame["run"] == "b1", "diverged", "complete")
    one = compare(frame)
    assert one.best == "a" and one.rows["label"].tolist() == ["c"]


def verdicts(results: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of each study [S], and whom it is said to be ahead of [S, k].

    The rules of ``compare`` for ``results`` [studies, seeds, strategies], all studies at a time.
    """
    studies, n, k = results.shape
    rows, (first, second) = np.arange(studies), np.triu_indices(k, 1)
    gaps = results[:, :, first] - results[:, :, second]
    t = gaps.mean(1) / (gaps.std(1, ddof=1) / np.sqrt(n))
    p = 2 * stats.t.sf(np.abs(t), n - 1)
    order = np.argsort(p, 1)
    steps = np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.maximum.accumulate(np.minimum(steps, 1), 1), 1)
    alone, holms = np.zeros((studies, k, k)), np.ones((studies, k, k))
    for table, values in ((alone, p), (holms, corrected)):
        table[:, first, second] = table[:, second, first] = values
    best = results.mean(1).argmax(1)
    ahead = alone[rows, best].max(1) < 0.05
    beaten = (holms[rows, best] < 0.05) | ahead[:, None]
    beaten[rows, best] = False
    return best, beaten


def test_the_rules_at_once_are_the_rules_one_by_one() -> None:
    results = np.random.default_rng(5).normal([0.8, 0.82, 0.83], 0.01, (60, 4, 3))
    best, beaten = verdicts(results)
    for i, study in enumerate(results):
        one = compare(made(**{f"s{j}": dict(enumerate(study[:, j])) for j in range(3)}))
        assert one.best == f"s{best[i]}"
        ties = set(one.rows.loc[one.rows["tie"], "label"])
        assert ties == {f"s{j}" for j in range(3) if j != best[i] and not beaten[i, j]}
        assert one.ahead == (beaten[i].sum() == 2)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("k", [2, 5, 10])
def test_equal_strategies_are_seldom_called_best(k: int, n: int) -> None:
    """At most 5% of studies claim anything of equal strategies; 1.5% more is the simulation's."""
    rng = np.random.default_rng([k, n])
    seeds = rng.normal(0, 1, (2000, n, 1))  # what strategies share by having the same seed
    noise = rng.normal(0, 1, (2000, n, k))
    _, beaten = verdicts(seeds + noise)
    false = beaten.any(1).mean()
    noise[:, :, 0] += 3  # a lead of three standard deviations of a strategy's own noise
    best, beaten = verdicts(seeds + noise)
    power = ((best == 0) & (beaten.sum(1) == k - 1)).mean()
    print(f"k = {k}, n = {n}: false claims {false:.2%}, power against 3 sd {power:.2%}")
    assert false <= 0.05 + 0.015
    if n >= 5:
        assert power >= (0.6 if n == 5 else 0.99)


def test_unequal_noise_and_a_tie_at_the_top_keep_the_rate() -> None:
    rng = np.random.default_rng(11)
    noise = rng.normal(0, 1, (2000, 5, 4))
    _, beaten = verdicts(noise * [5, 0.2, 1, 1])
    assert beaten.any(1).mean() <= 0.065
    best, beaten = verdicts(noise - [0, 0, 6, 6])
    rival = np.where(best == 0, 1, 0)
    assert beaten[np.arange(2000), rival].mean() <= 0.065
