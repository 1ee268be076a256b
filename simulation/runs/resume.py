"""What may go on in a run folder: the same experiment, or the same one with more rounds.

A run of more rounds equals one of so many from the start, to the bit: the last checkpoint of a
complete run stays, with all that the server and the clients keep. What depends on the number of
rounds itself is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.serverapp.strategy import Strategy

from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.config.sections import Evaluation
from simulation.config.strategy import make_strategy
from simulation.flower import their_strategies
from simulation.records import models, reading
from simulation.rounds.watching import Best, Watch
from strategies import Algorithm, Federated
from strategies.optional_protocols import PreparedForRun

UNDECISIVE = (
    "resources", "faults", "name", "data_dir", "track",
    "init.path", "devices.path", "devices.trace",
)  # fmt: skip
"""Tables and keys that a resumed run may change."""

PREPARED = ("client", "reducer", "server", "noise")
"""Parts of an algorithm that may be prepared for a number of rounds."""


def check_same(path: Path, experiment: Experiment) -> None:
    """Raise RunError unless ``path`` holds a run of this experiment, of as many rounds or others.

    The text says what differs.
    """
    config = reading.read_json(path / "config.json")
    if config is None:
        raise RunError(f"resume: {path} holds no run")
    old, new = config.get("experiment", {}), experiment.model_dump(mode="json")
    rounds = old.get("rounds", experiment.rounds)
    if config.get("hash") not in (experiment.digest(), _of(experiment, rounds).digest()):
        changed = [
            f"{key} was {a!r}, is {b!r}"
            for key, a, b in differences(old, new)
            if not key.startswith(UNDECISIVE)
        ] or ["this version computes these settings otherwise"]
        raise RunError(f"resume: {path} is a run of another experiment: {'; '.join(changed)}")


def as_computed(path: Path, experiment: Experiment) -> Experiment:
    """Return an experiment that is computed as the run in ``path``, by its backend and lanes.

    Raises:
        RunError: when it asks for another backend, or another number of lanes.
    """
    config = reading.read_json(path / "config.json") or {}
    asked = experiment.resources
    library, lanes = config.get("backend", "tensorflow"), config.get("lanes", 1)
    if asked.backend not in ("auto", library):
        raise RunError(
            f"resume: resources.backend must stay {library!r} in {path}, as last bits depend on "
            f"it, got {asked.backend!r}"
        )
    if library != "jax":
        same = asked.library == library
        return experiment if same else experiment.replace(**{"resources.backend": library})
    if asked.lanes not in (None, lanes):
        raise RunError(
            f"resume: resources.lanes must stay {lanes} in {path}, as last bits depend on it, "
            f"got {asked.lanes}"
        )
    return experiment.replace(**{"resources.backend": library, "resources.lanes": lanes})


def trains_in_a_group(path: Path) -> bool:
    """Tell whether the run in ``path`` trains in lanes that a study's runs share."""
    config = reading.read_json(path / "config.json") or {}
    return bool(config.get("grouped", False))


def rounds_of(path: Path) -> int | None:
    """Return how many rounds the run in ``path`` was to have; None if that is not known."""
    config = reading.read_json(path / "config.json") or {}
    rounds = config.get("experiment", {}).get("rounds")
    return rounds if isinstance(rounds, int) else None


def check_rounds(
    path: Path,
    experiment: Experiment,
    strategy: Strategy | Algorithm | None = None,
    saved: int | None = None,
) -> None:
    """Raise RunError if the run in ``path`` cannot go on to another number of rounds.

    Args:
        path: the run folder.
        experiment: the run, with the rounds that it is to have.
        strategy: an object that is used in the place of the experiment's strategy.
        saved: round of the last checkpoint; None: taken from what is recorded.
    """
    before = rounds_of(path)
    if before is None or before == experiment.rounds:
        return
    lines = reading.read_rounds(path)
    done = max(saved or 0, lines[-1]["round"] if lines else 0)
    if experiment.rounds < done:
        raise RunError(
            f"rounds must be at least those that {path} has done ({done}), got {experiment.rounds}"
        )
    decay = experiment.training.decay
    if decay is not None and decay.needs_rounds:
        raise RunError(
            f"rounds must stay {before} in {path}, as the learning rate falls along a cosine over "
            f"that many (training.decay.rounds says over how many), got {experiment.rounds}"
        )
    was = make_strategy(_of(experiment, before), strategy)
    now = make_strategy(experiment, strategy)
    reason = _depends(was, now)
    if reason is None and _has_seen_more(now, experiment, before, done):
        reason = f"its strategy has seen an evaluation in round {done}, its last"
    if reason is None and _best_was_extra(experiment, lines, before):
        reason = f"its best model is that of round {before}, which a longer run does not measure"
    if reason is not None:
        raise RunError(f"rounds must stay {before} in {path}, as {reason}, got {experiment.rounds}")


def _best_was_extra(
    experiment: Experiment, lines: Sequence[Mapping[str, Any]], before: int
) -> bool:
    """Tell whether the best model is of a last round that a longer run does not measure."""
    if _undisturbed(experiment.evaluation, before, before, experiment.rounds):
        return False
    watch = Watch(experiment)
    watch.see_all(lines)
    return watch.best is not None and watch.best.round == before


def check_best(path: Path, best: Best | None) -> None:
    """Raise RunError unless the folder has the best model that its lines speak of, if any.

    One of a later round is that of a round that is trained again.
    """
    if best is None or best.value is None:
        return
    found = models.read_best(path)
    if found is None or found[0] < best.round:
        got = "none" if found is None else f"that of round {found[0]}"
        raise RunError(
            f"resume: {path} must have the model of round {best.round} in {models.BEST}, got {got}"
        )


def last_line(path: Path, experiment: Experiment, saved: int) -> int:
    """Return the last round whose record stays when the run goes on after round ``saved``.

    The last round of a shorter run was measured where a longer run does not, or the other way
    round: it is measured again as the experiment says.
    """
    before = rounds_of(path) or experiment.rounds
    kept = _undisturbed(experiment.evaluation, before, saved, experiment.rounds)
    return saved if kept else saved - 1


def _has_seen_more(strategy: Strategy, experiment: Experiment, before: int, done: int) -> bool:
    """Tell whether a strategy may have learned from a measurement that a longer run leaves out."""
    plan = experiment.evaluation
    if isinstance(strategy, Federated) or not plan.clients:
        return False
    left_out = not _undisturbed(plan, before, done, experiment.rounds)
    return left_out and not their_strategies.evaluates_plainly(strategy)


def _undisturbed(evaluation: Evaluation, before: int, round: int, after: int) -> bool:
    return evaluation.is_due(round, before) == evaluation.is_due(round, after)


def _of(experiment: Experiment, rounds: int) -> Experiment:
    return experiment.model_copy(update={"rounds": rounds})


def _depends(was: Strategy, now: Strategy) -> str | None:
    """Return what of a strategy depends on the number of rounds; None if nothing does."""
    if not isinstance(was, Federated) or not isinstance(now, Federated):
        return None
    for part in PREPARED:
        old, new = getattr(was.algorithm, part), getattr(now.algorithm, part)
        if isinstance(new, PreparedForRun) and old != new:
            return f"the {part} of {now.algorithm.name!r} is made for that many rounds"
    return None


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield ``(dotted key, old, new)`` wherever two nested mappings differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(n for n in new if n not in old)]:
            yield from differences(old.get(name), new.get(name), f"{key}.{name}".strip("."))
    elif old != new:
        yield key, old, new
