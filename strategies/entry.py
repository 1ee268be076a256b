"""An entry of the catalogue: a function from options to an :class:`Algorithm`, with its paper.

Its signature is the list of options and their defaults, the first line of its docstring the
update rule. x is the model, delta what the clients moved it by, n_i a client's examples. With
``weights="uniform"`` every n_i is 1; the default, None, is ``"examples"``, or ``"uniform"`` where
cohorts are drawn by size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.citation import Citation
from strategies.schedules import from_table

Builder = Callable[..., Algorithm]


@dataclass(frozen=True)
class Entry:
    """An algorithm of the catalogue.

    Args:
        key: the name used on the command line, such as ``"fedprox"``.
        title: the name used in figures, such as ``"FedProx"``.
        citation: the paper; None for a plug-in that names none.
        builder: a function from options to the algorithm.
        grids: options that a study should tune, each with the values to try.
        gain: what the server multiplies a steady update by besides its learning rate, as a
            function of the options; None for 1.
    """

    key: str
    title: str
    citation: Citation | None
    builder: Builder
    grids: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    gain: Callable[[Mapping[str, Any]], float] | None = None

    @property
    def rule(self) -> str:
        """The update rule in one line."""
        return (inspect.getdoc(self.builder) or "").partition("\n")[0]

    @property
    def options(self) -> dict[str, Any]:
        """Options and their defaults."""
        parameters = inspect.signature(self.builder).parameters.values()
        return {p.name: p.default for p in parameters}

    @property
    def bibtex(self) -> str:
        """The citation as BibTeX; empty without one."""
        return self.citation.bibtex if self.citation else ""

    def build(self, **options: Any) -> Algorithm:
        """Return the algorithm. A table in the place of a number is a schedule over rounds.

        Raises:
            ValueError: for an unknown option or a value out of range.
        """
        for name, value in options.items():
            checks.one_of(f"option of {self.key}", name, self.options)
            if isinstance(value, Mapping):
                options[name] = from_table(name, value)
        return self.builder(**options)


class Family(dict[str, Entry]):
    """Entries that belong together, by key, in the order of definition."""

    def entry(
        self,
        title: str,
        citation: Citation,
        gain: Callable[[Mapping[str, Any]], float] | None = None,
        **grids: tuple[float, ...],
    ) -> Callable[[Builder], Builder]:
        """Add a builder under its own name, hyphens for underscores.

        Learning rates are in no grid: a study tunes them around what they are. Nor are options
        that say what a strategy is to withstand or keep (byzantine, layers), and those of
        private ones: every try would cost privacy that nobody accounts for.
        """

        def add(builder: Builder) -> Builder:
            key = builder.__name__.replace("_", "-")
            self[key] = Entry(key, title, citation, builder, grids, gain)
            return builder

        return add
