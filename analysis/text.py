"""Numbers and names as text, safe for LaTeX, Markdown and file names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isnan
from typing import Any

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
EPSILON = "\N{GREEK SMALL LETTER EPSILON}"
TO = "\N{EN DASH}"
"""Between the ends of a range, and alone for a missing value."""
TIMES = "\N{MULTIPLICATION SIGN}"

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    TIMES: r"$\times$",
    ALPHA: r"$\alpha$",
    "β": r"$\beta$",
    "η": r"$\eta$",
    "ν": r"$\nu$",
    "τ": r"$\tau$",
    EPSILON: r"$\varepsilon$",
    "μ": r"$\mu$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    TO: "--",
    "∞": r"$\infty$",
    "\n": " ",
}


SYMBOLS = {
    "alpha": ALPHA,
    "beta": "β",
    "beta1": "β1",
    "beta2": "β2",
    "learning_rate": "η",
    "mu": "μ",
    "nu": "ν",
    "tau": "τ",
}
"""Options of strategies that papers write as symbols."""

OPTION = re.compile(rf"(?<=[(,])(\s*)({'|'.join(SYMBOLS)})(?==)")


def typeset(text: str) -> str:
    """Return a text with the options of strategies as papers write them.

    ``FedProx(mu=0.1)`` is ``FedProx(μ=0.1)``; what is no option of a strategy stays.
    """
    return OPTION.sub(lambda match: match[1] + SYMBOLS[match[2]], text)


def latex_escape(text: str) -> str:
    """Return ``text`` safe for LaTeX, symbols of ours as mathematics."""
    return "".join(LATEX.get(c, c) for c in typeset(text))


def from_latex(text: str) -> str:
    """Return a text with the symbols that :func:`latex_escape` made."""
    for symbol, latex in LATEX.items():
        if latex.startswith("$"):
            text = text.replace(latex, symbol)
    return text


def markdown_escape(text: str) -> str:
    """Return ``text`` safe inside a Markdown table's cell."""
    text = typeset(text)
    for c in "\\`*_{}[]<>|":
        text = text.replace(c, f"\\{c}")
    return text.replace("\n", " ")


def slug(text: str) -> str:
    """Return ``text`` as a file name: letters, digits, dots, dashes and underscores."""
    plain = text.replace(ALPHA, "alpha").replace(" = ", "")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "figure"


def words(column: str) -> str:
    """Return a column's name in words: ``training.batch_size`` is batch size."""
    for prefix in ("training.", "strategy.", "partition."):
        column = column.removeprefix(prefix)
    return column.replace(".", " ").replace("_", " ")


def number(value: Any) -> str:
    """Return a value as short text: 100.0 as 100."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def listing(values: Sequence[Any]) -> str:
    """Return ``a, b and c``."""
    texts = [number(v) for v in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def span(values: Any) -> str:
    """Return ``3`` for equal counts, ``3-5`` (with an en dash) for a range of them."""
    low, high = int(min(values)), int(max(values))
    return str(low) if low == high else f"{low}{TO}{high}"


def plus_minus(mean: float, std: float, share: bool) -> str:
    """Return ``84.7 ± 0.3``: shares in per cent with one decimal, other values with three."""
    factor, digits = (100.0, 1) if share else (1.0, 3)
    if isnan(mean):
        return TO
    text = f"{mean * factor:.{digits}f}"
    return text if isnan(std) else f"{text} ± {std * factor:.{digits}f}"


def p_text(p: float) -> str:
    """Return a p-value as papers print it."""
    if isnan(p):
        return TO
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
