"""What a reader must know before the numbers: diverged runs, unfinished runs, unequal seeds."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.grouping import seeds_of, uneven
from analysis.runs import ENDED, Runs
from analysis.summarise import DIVERGED, diverged
from analysis.text import span
from analysis.working_time import at_the_same_time, is_known

COMPUTING = ("sunflower-fl", "keras", "tensorflow", "jax", "numpy", "flwr")
"""Packages whose version may change a result."""

NAMED = 12
"""Runs that are named one by one; of more, the number is told."""


def cautions(runs: Runs) -> list[str]:
    """Return what the numbers of these runs do not show by themselves, a sentence or two each."""
    found = []
    lost = [
        f"{label} in {of} of {all_} seeds{f' ({setting})' if setting else ''}"
        for setting, label, of, all_ in _diverged(runs)
    ]
    if lost:
        found.append(
            f"Diverged: {'; '.join(lost)}. Their model or loss was no longer finite. They count as "
            "not reached, and a strategy of which a seed diverged has no final mean."
        )
    if runs.left_out:
        names = [f"{name} ({state})" for name, state in runs.left_out.items()]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        found.append(
            f"Not complete, and left out of every figure and table: {len(names)} of "
            f"{len(names) + len(runs)} runs: {', '.join(names[:NAMED])}{more}."
        )
    if not runs.table["status"].isin(ENDED).any():
        found.append("No run is complete: what follows is how far they are, and no result.")
    for setting in runs.settings:
        part = runs.at(setting)
        if uneven(part):
            seeds = "; ".join(f"{x}: {_seeds(s)}" for x, s in _ordered(part))
            found.append(
                f"Unequal seeds{f' ({setting})' if setting else ''}: {seeds}. Strategies are "
                "compared on the seeds that all of them have; a mean is over a strategy's own."
            )
    together = _at_the_same_time(runs)
    if together and not is_known(runs.rounds):
        found.append(
            f"Run at the same time: {len(together)} of {len(runs)} runs. Their wall-clock times "
            "depend on each other, and say little about the strategies."
        )
    titles = list(runs.settings)
    strange = [
        one for one in runs.names.reported if runs.names.of_runs(one.setting, titles) is None
    ]
    if strange:
        found.append(
            f"Reported by others for a setting that no run has: "
            f"{'; '.join(f'{one.label} ({one.setting!r})' for one in strange)}. The settings are "
            f"{'; '.join(titles)}."
        )
    if runs.names.unknown:
        found.append(
            f"Named by the author, but of no run: {', '.join(runs.names.unknown)}. The strategies "
            f"are {', '.join(runs.title(label) for label in runs.order())}."
        )
    if changed := _versions(runs):
        found.append(
            f"Different versions: {'; '.join(changed)}. Their results may differ by more than the "
            "strategies."
        )
    if mixed := _backends(runs):
        found.append(
            f"Different backends: {'; '.join(mixed)}. Their results are equal to rounding errors "
            "alone, not to the bit, and their times are no measure of the strategies."
        )
    return found


def footnote(runs: Runs) -> str:
    """Return the same in a few words, for the foot of a figure; '' where there is nothing."""
    found = []
    worst: dict[str, tuple[int, int]] = {}
    for _, label, of, all_ in _diverged(runs):
        before = worst.get(label, (0, 0))
        worst[label] = (before[0] + of, before[1] + all_)
    if worst:
        texts = [f"{label} {of}/{all_} seeds" for label, (of, all_) in worst.items()]
        found.append(f"Diverged (\N{MULTIPLICATION SIGN}): {', '.join(texts)}.")
    if runs.left_out:
        number = len(runs.left_out)
        found.append(f"{number} unfinished run{'s'[: number != 1]} left out.")
    if not runs.table["status"].isin(ENDED).any():
        found.append("No run is complete.")
    if any(uneven(runs.at(setting)) for setting in runs.settings):
        counts: dict[str, list[int]] = {}
        for setting in runs.settings:
            for label, seeds in _ordered(runs.at(setting)):
                counts.setdefault(label, []).append(len(seeds))
        found.append(f"Seeds: {', '.join(f'{x} {span(c)}' for x, c in counts.items())}.")
    if mixed := _backends(runs):
        found.append(f"Backends: {', '.join(mixed)}.")
    return " ".join(found)


def _at_the_same_time(runs: Runs) -> list[str]:
    """Return the runs that went on while another did."""
    elapsed = runs.rounds.groupby("run", observed=True)["elapsed"].max()
    return at_the_same_time(runs.configs, {str(k): float(v) for k, v in elapsed.items()})


def _versions(runs: Runs) -> list[str]:
    """Return what computes in several versions, or is recorded in several formats."""
    found: dict[str, set[str]] = {}
    for config in runs.configs.values():
        for name, version in (config.get("versions") or {}).items():
            if name in COMPUTING:
                found.setdefault(name, set()).add(str(version))
        found.setdefault("format of the folder", set()).add(str(config.get("format", 1)))
    return [f"{k} {' and '.join(sorted(v))}" for k, v in found.items() if len(v) > 1]


def _backends(runs: Runs) -> list[str]:
    """Return how many runs each backend computed; nothing where they all have the same."""
    counts = runs.table["backend"].value_counts().sort_index()
    return [f"{name} {n}" for name, n in counts.items()] if len(counts) > 1 else []


def _diverged(runs: Runs) -> list[tuple[str, str, int, int]]:
    """Return setting, label, how many seeds diverged and how many there are."""
    found: list[tuple[str, str, int, int]] = []
    if not (runs.table["status"] == DIVERGED).any():
        return found
    for setting in runs.settings:
        rows = diverged(runs.at(setting).rounds)
        counts = {
            str(label): (int(of), int(all_))
            for label, of, all_ in zip(rows["label"], rows["diverged"], rows["seeds"], strict=True)
        }
        found += [(setting, label, *counts[label]) for label in runs.order(counts)]
    return found


def _ordered(part: Runs) -> list[tuple[str, tuple[int, ...]]]:
    seeds = seeds_of(part)
    return [(label, seeds[label]) for label in part.order(seeds)]


def _seeds(seeds: Sequence[int]) -> str:
    noun = "seed" if len(seeds) == 1 else "seeds"
    return f"{len(seeds)} {noun} ({', '.join(map(str, seeds[:NAMED]))})"
