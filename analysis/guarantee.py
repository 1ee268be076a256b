"""Differential privacy in words: what runs guarantee, and of which neighbours."""

from __future__ import annotations

from analysis.runs import Runs
from analysis.text import latex_escape

SAMPLINGS = {
    "poisson": "each client takes part in a round by itself with probability {}",
    "uniform": "cohorts of a fixed size, {} of the clients, are drawn without replacement",
}
"""How clients take part, by the name of the sampling."""


def guarantees(runs: Runs) -> list[str]:
    """Return a sentence for each different guarantee that the runs' ``config.json`` record."""
    found: dict[str, None] = {}
    for run, config in runs.configs.items():
        said = config.get("privacy")
        if not said:
            continue
        label = latex_escape(str(runs.table.at[run, "label"]))
        how = SAMPLINGS.get(str(said["sampling"]), "{}").format(f"{said['sampling_rate']:.3g}")
        spent, delta = said["epsilon"], f"{said['delta']:.3g}"
        epsilon = "no finite epsilon" if spent is None else f"epsilon {spent:.3g}"
        found[
            f"{label} is differentially private for clients with {epsilon} at delta {delta} after "
            f"{said['rounds']} rounds, where neighbours {said['neighbours']}: {how}."
        ] = None
    return list(found)
