"""What was done, in words: the study, a methods paragraph to paste, and its references."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import scenario
from analysis.clock_methods import clock
from analysis.guarantee import guarantees
from analysis.local_training import local_training
from analysis.plots.base import name_of
from analysis.runs import FASHION_MNIST, Runs
from analysis.significance import LEAST_PAIRS, LEVEL, TESTS
from analysis.sources import BIBTEX
from analysis.summarise import DIVERGED
from analysis.text import TO, from_latex, latex_escape, listing, number, span

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}
"""What computes, by the name in ``config.json``."""

BASELINES = {
    "centralised": "Centralised training on the pooled data is the upper baseline.",
    "local": "Training on each client's data alone is the lower baseline.",
}
"""What is said of runs without a federation, by their mode."""

Citations = Mapping[str, str | Sequence[str]]


def bibtex_key(entry: str) -> str:
    """Return the key of a BibTeX entry; empty if the text is none."""
    match = re.search(r"@\w+\s*\{\s*([^\s,{}]+)\s*,", entry)
    return match[1] if match else ""


def citations_of(runs: Runs, given: Citations | None = None) -> dict[str, list[str]]:
    """Return BibTeX entries by label: those given, else those in each run's ``config.json``.

    Args:
        runs: the runs.
        given: BibTeX, one entry or several, by label or strategy.
    """
    found: dict[str, list[str]] = {}
    for run, config in runs.configs.items():
        label, strategy = str(runs.table.at[run, "label"]), str(runs.table.at[run, "strategy"])
        entries: list[str] = []
        for name in dict.fromkeys((label, runs.title(label), strategy)):
            value = (given or {}).get(name, [])
            entries += [value] if isinstance(value, str) else list(value)
        if not entries:
            entries = list(bibtex_in(config.get("citations")))
        known = found.setdefault(label, [])
        known += [e for e in entries if bibtex_key(e) and e not in known]
    return found


def bibtex_in(value: Any) -> Iterable[str]:
    """Return the BibTeX entries anywhere in a value from a ``config.json``."""
    if isinstance(value, str):
        if bibtex_key(value):
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from bibtex_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from bibtex_in(part)


def values_of(runs: Runs, column: str, pooled: bool = True) -> list[Any]:
    """Return the different values of a column of the table, sorted, missing ones left out."""
    table = runs.table
    if not pooled:
        chosen = table[table["mode"] != "centralised"]
        table = chosen if len(chosen) else table
    if column not in table:
        return []
    values = table[column].dropna().unique().tolist()
    return sorted(values, key=lambda v: (isinstance(v, str), v))


def plural(count: int, noun: str) -> str:
    """Return ``1 seed`` or ``3 seeds``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def methods(
    runs: Runs,
    citations: Citations | None = None,
    test: str = "t",
    rates: Sequence[str] = (),
) -> tuple[str, list[str]]:
    r"""Return a methods paragraph in LaTeX, with ``\cite``, and the BibTeX entries it cites.

    It says only what the run folders say: the sentence of a setting that they lack is left out.

    Args:
        runs: the runs.
        citations: BibTeX by label or strategy; by default what ``config.json`` says.
        test: how strategies are compared, see :data:`analysis.significance.TESTS`.
        rates: sentences about how learning rates and options were chosen.
    """
    entries: dict[str, str] = {}

    def cite(*texts: str) -> str:
        for text in texts:
            entries.setdefault(bibtex_key(text), text)
        keys = ",".join(dict.fromkeys(map(bibtex_key, texts)))
        return rf"~\cite{{{keys}}}" if keys else ""

    def say(column: str, noun: str = "") -> str:
        found = values_of(runs, column, pooled=False)
        counted = f" {noun}{'' if found == [1] else 's'}" if noun else ""
        return latex_escape(listing(found)) + counted if found else ""

    by_label = citations_of(runs, citations)
    modes = runs.table.groupby("label")["mode"].first()
    sentences = []
    if say("clients"):
        taking = say("cohort")
        cohort = (
            f", of which {taking} take{'s' * (taking == '1')} part in a round," if taking else ""
        )
        sentences.append(
            f"We simulate federated learning with {say('clients', 'client')}{cohort} "
            f"for {say('rounds', 'round')}."
        )
    sentences.append(_about_data(runs, cite))
    sentences += scenario.behaviour(runs, cite)
    sizes = {c.get("parameters") for c in runs.configs.values()} - {None}
    count = f"{sizes.pop():,}".replace(",", r"\,") if len(sizes) == 1 else ""
    size = f" ({count} parameters)" if count else ""
    training = local_training(runs)
    detail = f" with {', '.join(training)}" if training else ""
    sentences.append(f"Clients train the {say('model')} model{size}{detail}.")
    rivals = [x for x in runs.order() if modes[x] == "federated"]
    if rivals:
        named = [latex_escape(x) + cite(*by_label.get(x, [])) for x in rivals]
        verb = "We compare" if len(named) > 1 else "We run"
        sentences.append(f"{verb} {listing(named)}.")
    sentences += rates
    sentences += clock(runs, cite)
    sentences += guarantees(runs)
    sentences += [text for mode, text in BASELINES.items() if mode in set(modes)]
    sentences += about_seeds(runs, cite, test)
    sentences.append(
        f"Simulations use Sunflower on Flower{cite(BIBTEX['flwr'])} and Ray{cite(BIBTEX['ray'])}."
    )
    sentences += computing(runs)
    return " ".join(sentences), list(entries.values())


def _about_data(runs: Runs, cite: Callable[..., str]) -> str:
    """Return which datasets there are, and how they were dealt."""
    names = [
        latex_escape(str(runs.names.dataset(name)))
        + (cite(BIBTEX["fashion-mnist"]) if name in FASHION_MNIST else "")
        for name in map(str, values_of(runs, "dataset"))
    ]
    how = scenario.partitions(runs, cite)
    alphas = values_of(runs, "alpha", pooled=False)
    if alphas:
        how += rf" ($\alpha \in \{{{', '.join(number(a) for a in alphas)}\}}$)"
    split = f"split among the clients: {how}" if how else "used"
    if len(names) > 1:
        return f"The datasets {listing(names)} are {split}."
    return f"The dataset {names[0] if names else ''} is {split}."


def computing(runs: Runs) -> list[str]:
    """Return what Keras computed with, and how many clients were trained side by side."""
    counts = runs.table["backend"].value_counts()
    names = [latex_escape(BACKENDS.get(str(name), str(name))) for name in counts.index]
    if not names:
        return []
    if len(names) > 1:
        each = [f"{plural(n, 'run')} on {name}" for name, n in zip(names, counts, strict=True)]
        found = f"Clients are trained by Keras, {listing(each)}"
    else:
        found = f"Clients are trained by Keras on {names[0]}"
    lanes = values_of(runs, "lanes")
    beside = f", {listing(lanes)} side by side" if lanes and lanes != [1] else ""
    return [f"{found}{beside}."]


def about_seeds(runs: Runs, cite: Callable[..., str], test: str) -> list[str]:
    """Return what was repeated with which seeds, what is not counted, and how it is compared."""
    table = runs.table
    groups = [g for _, g in table.groupby(["setting", "label"], sort=False)]
    sets = {tuple(sorted(set(g["seed"]))) for g in groups}
    counts = sorted({len(s) for s in sets})
    found = []
    if sets == {s for s in sets if len(s) == 1} and len(sets) == 1:
        found.append(f"Results are of one seed ({next(iter(sets))[0]}).")
    elif len(sets) == 1:
        seeds = next(iter(sets))
        found.append(
            f"Every setting is run with {len(seeds)} seeds ({listing(seeds)}), which also fix the "
            "partition and the cohorts, so that results are paired by seed."
        )
    elif sets:
        found.append(
            f"Not every setting is run with the same seeds: {_who_has(runs)}. "
            "They also fix the partition and the cohorts; results are paired by the seeds that "
            "all strategies of a setting have, and compared on these alone."
        )
    if number := int((table["status"] == DIVERGED).sum()):
        found.append(
            f"Of {plural(len(table), 'run')}, {number} diverged: they count as not reaching a "
            "target, and no mean is given for a strategy of which a seed diverged."
        )
    if runs.left_out:
        many = plural(len(runs.left_out), "unfinished run")
        found.append(f"{many} {'is' if len(runs.left_out) == 1 else 'are'} not counted.")
    rivals = table[table["mode"] == "federated"]["label"].nunique()
    if counts and counts[-1] >= LEAST_PAIRS and rivals > 1:
        name = name_of(runs.metric)
        found.append(
            f"We report mean and standard deviation of the final {name[0].lower()}{name[1:]}. "
            f"Strategies are compared by a {TESTS[test]}, two-sided at the {LEVEL:.0%} level: the "
            "best is called ahead of all others where it differs from its closest rival"
            f"{cite(BIBTEX['rank'])}, and different from a single one after Holm's correction "
            "over all pairs.".replace("%", r"\%")
        )
    return found


def _who_has(runs: Runs) -> str:
    """Say how many seeds each strategy has; from the fewest to the most in its settings."""
    counts = runs.table.groupby(["setting", "label"], sort=False)["seed"].nunique()
    each = {str(label): span(c) for label, c in counts.groupby(level="label", sort=False)}
    by_count: dict[str, list[str]] = {}
    for label in runs.order(each):
        by_count.setdefault(each[label], []).append(latex_escape(label))
    many = {
        count: f"{count.replace(TO, '--')} seed{'' if count == '1' else 's'}" for count in by_count
    }
    return "; ".join(f"{listing(labels)} with {many[count]}" for count, labels in by_count.items())


def plain(latex: str) -> str:
    """Return a methods paragraph without its LaTeX."""
    text = re.sub(r"~\\cite\{[^}]*\}", "", latex)
    text = text.replace(r"$\alpha \in \{", "\N{GREEK SMALL LETTER ALPHA} in {").replace(r"\}$", "}")
    text = from_latex(text.replace(r"\,", ","))
    text = re.sub(r"(?<!\\)\$([^$]*[^$\\])\$", r"\1", text)
    return re.sub(r"\\([%&_#{}$])", r"\1", text)


def in_words(runs: Runs) -> str:
    """Return one sentence about what the runs are."""
    table = runs.table
    modes = table.groupby("label")["mode"].first()
    rivals = int((modes == "federated").sum())
    baselines = len(modes) - rivals
    parts = [plural(rivals, "federated strategy").replace("strategys", "strategies")]
    if baselines:
        parts.append(plural(baselines, "baseline"))
    if len(runs.settings) > 1:
        parts.append(plural(len(runs.settings), "setting"))
    parts.append(plural(int(table["seed"].nunique()), "seed"))
    rounds = plural(len(runs.rounds[runs.rounds["round"] > 0]), "round")
    return f"{plural(len(table), 'run')}: {listing(parts)}; {rounds} in all."


def versions_of(runs: Runs) -> pd.DataFrame:
    """Return the versions that the runs recorded: a row per package, several values listed."""
    found: dict[str, set[str]] = {}
    for config in runs.configs.values():
        for name, version in (config.get("versions") or {}).items():
            found.setdefault(str(name), set()).add(str(version))
    rows = [(name, ", ".join(sorted(values))) for name, values in sorted(found.items())]
    return pd.DataFrame(rows, columns=["package", "version"])


def settings_of(runs: Runs) -> pd.DataFrame:
    """Return every key of the experiments with its values; whether they differ between runs."""
    flat = [c for c in runs.table.columns if c not in ("hash", "status", "setting", "label")]
    rows = []
    for column in flat:
        values = runs.table[column].map(lambda v: "" if v is None or v != v else number(v))
        different = [v for v in dict.fromkeys(values) if v]
        if different:
            rows.append((column, ", ".join(different), len(different) > 1))
    return pd.DataFrame(rows, columns=["key", "values", "varies"])
