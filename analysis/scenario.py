"""How the data was dealt and how clients behaved, in words with their sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.encodings import compression
from analysis.runs import Runs
from analysis.sources import BIBTEX
from analysis.text import latex_escape, listing, number

Cite = Callable[..., str]
"""Makes a citation of BibTeX entries."""

PARTITIONS = {
    "iid": ("i.i.d.", ()),
    "dirichlet": (
        "each class in Dirichlet proportions over the clients",
        ("yurochkin", "li-silos"),
    ),
    "inner-dirichlet": (
        "equal sizes, the labels of each client from a Dirichlet distribution",
        ("acar",),
    ),
    "pathological": ("a fixed number of classes for each client", ("mcmahan",)),
    "shards": ("shards of rows sorted by label", ("mcmahan",)),
    "quantity": ("random rows, sizes in Dirichlet proportions", ("li-silos",)),
    "pachinko": (
        "equal sizes, the labels of each client by pachinko allocation over groups of classes",
        ("fedopt",),
    ),
    "file": ("as a file says", ()),
    "on-demand": ("each client draws rows of its own", ()),
    "natural": ("by the rows' own origin", ()),
}
"""What a partition does, and its sources."""

SAMPLINGS = {
    "by-size": (
        "Clients are drawn in proportion to their examples, without replacement{}.",
        ("efraimidis",),
    ),
    "poisson": ("Each client takes part in a round by itself, with the same probability.", ()),
    "round-robin": ("Clients take part in turn, in a random order that repeats.", ()),
    "power-of-choice": (
        "Of candidates drawn by size, those with the largest losses take part "
        "(power-of-choice{}, by the loss of their last training).",
        ("cho",),
    ),
    "oort": (
        "Cohorts are of clients with much loss that take little time, and of some that have not "
        "taken part yet (Oort{}, by the mean loss of their last training).",
        ("oort",),
    ),
    "tifl": (
        "Each cohort is of one tier of clients that take about equally long, tiers with larger "
        "losses more often (TiFL{}, by the loss of their clients' last training).",
        ("tifl",),
    ),
}
"""What a sampling does, and its sources; uniform sampling needs no words."""

ATTACKS = {
    "label-flip": ("train on labels $c - 1 - y$ of $c$ classes{}", ("fang",)),
    "sign-flip": ("send their update with its sign turned{}", ("rsa",)),
    "noise": ("send Gaussian noise in the place of an update{}", ("blanchard",)),
    "scale": ("send a multiple of their update", ()),
    "label-flip-of-one": ("train on labels of one class as those of another{}", ("tolpegin",)),
    "free-rider": (
        "train nothing and send the model back, with noise where a strength is given{}",
        ("fraboni",),
    ),
    "alie": (
        "send the mean of the honest updates less so many standard deviations as their supporters, "
        "or the strength, say (ALIE{})",
        ("baruch",),
    ),
    "ipm": (
        "send the mean of the honest updates with its sign turned, shortened (inner-product "
        "manipulation{})",
        ("xie",),
    ),
    "min-max": (
        "send the update along the deviation of the honest ones that is as far from any of them "
        "as two of these are apart (min-max{})",
        ("shejwalkar",),
    ),
    "min-sum": (
        "send the update along the deviation of the honest ones whose squared distances to them "
        "sum up to no more than those of an honest one (min-sum{})",
        ("shejwalkar",),
    ),
    "fang": (
        "send updates beyond all honest ones, against the direction of their mean{}",
        ("fang",),
    ),
    "backdoor": (
        "stamp a pattern of pixels on a part of their pictures, which they label as one class, "
        "and boost their update by the strength{}; the attack success rate is the share of the "
        "test pictures of other classes that the pattern turns into that class",
        ("badnets", "bagdasaryan"),
    ),
    "semantic-backdoor": (
        "train on examples of one class with a natural feature, which no other client has, as "
        "those of another class, and boost their update by the strength{}; the attack success rate "
        "is the share of the test examples with that feature that the model takes for that class",
        ("bagdasaryan", "tails"),
    ),
}
"""What attackers do, and the sources."""


def partitions(runs: Runs, cite: Cite) -> str:
    """Return how the data was dealt: each kind of partition with its source."""
    found = []
    kinds = [str(kind) for kind in _values(runs, "partition")]
    for kind in kinds:
        words, sources = PARTITIONS.get(kind, (latex_escape(kind), ()))
        if kind == "on-demand" and "prior" in _values(runs, "partition.law"):
            sources = ("hsu",)
        found.append(words + cite(*(BIBTEX[name] for name in sources)))
    if _values(runs, "partition.noise"):
        found.append(
            "client $i$ of $N$ adds Gaussian noise of variance $s (i + 1) / N$ to its "
            f"inputs, $s$ = {listing(_values(runs, 'partition.noise'))}"
            f"{cite(BIBTEX['li-silos'])}"
        )
    if turned := _values(runs, "partition.rotations"):
        found.append(
            f"pictures of client $i$ are turned by $i$ mod {listing(turned)} parts of a turn"
            f"{cite(BIBTEX['ifca'])}"
        )
    if held := _values(runs, "partition.root"):
        found.append(f"{listing([number(n) for n in held])} examples stay with the server")
    return "; ".join(found)


def behaviour(runs: Runs, cite: Cite) -> list[str]:
    """Return a sentence for each way of sampling, attack and kind of realism that a run used."""
    found = []
    for kind in _values(runs, "sampling.kind"):
        if kind in SAMPLINGS:
            found.append(_filled(*SAMPLINGS[kind], cite))
    found += _attacks(runs, cite)
    return found + compression(runs, cite) + _realism(runs, cite)


def _attacks(runs: Runs, cite: Cite) -> list[str]:
    found = []
    for kind in [k for k in _values(runs, "attack.kind") if k in ATTACKS]:
        rows = runs.table[runs.table["attack.kind"] == kind]
        source = rows.get("attack.source", pd.Series(None, rows.index, dtype=object))
        one = source.notna() & (kind == "label-flip")
        for words, part in ((kind, rows[~one]), (f"{kind}-of-one", rows[one])):
            if part.empty:
                continue
            shares = _said(part, "attack.fraction")
            strength = _said(part, "attack.strength")
            more = f" (strength {strength})" if strength else ""
            text = _filled(*ATTACKS[words], cite)
            found.append(f"A fraction of {shares} of the clients attack: they {text}{more}.")
    return found


def _realism(runs: Runs, cite: Cite) -> list[str]:
    def share(key: str, nothing: float) -> str:
        return listing([v for v in _values(runs, f"realism.{key}") if v != nothing] or [""])

    found = []
    if part := share("dropout", 0.0):
        found.append(f"A client that was asked does not answer with probability {part}.")
    if part := share("stragglers", 0.0):
        drops = [d for d in _values(runs, "realism.drop_stragglers") if d not in (False, "()")]
        found.append(
            f"A fraction of {part} of the clients are stragglers and do a uniformly drawn part of "
            f"their local work{cite(BIBTEX['fedprox'])}"
            + (", which some or all strategies leave out." if drops else ".")
        )
    if part := share("availability", 1.0):
        found.append(f"A client can be asked in a round with probability {part}, independently.")
    if part := share("over_selection", 0.0):
        found.append(
            f"More clients are asked than are needed, by a fraction of {part}, and the fastest "
            f"count{cite(BIBTEX['bonawitz'])}."
        )
    return found


def _filled(words: str, sources: tuple[str, ...], cite: Cite) -> str:
    return words.replace("{}", cite(*(BIBTEX[name] for name in sources)))


def _said(rows: pd.DataFrame, column: str) -> str:
    values = sorted(rows[column].dropna().unique()) if column in rows else []
    return latex_escape(listing([number(v) for v in values])) if values else ""


def _values(runs: Runs, column: str) -> list[Any]:
    """Return the different values of a column among the runs that are not pooled."""
    table = runs.table[runs.table["mode"] != "centralised"]
    values = table[column].dropna().unique().tolist() if column in table else []
    return sorted(values, key=lambda v: (isinstance(v, str), v))
