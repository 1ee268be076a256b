"""The client rule: what a client does differently from plain local training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from strategies.direction import SECOND, Direction
from strategies.label_discrepancy import LabelDiscrepancy
from strategies.objective import KNOWN, MEANS, OF_CLASSES, Objective
from strategies.phases import EVERYTHING, Phase
from strategies.schedules import Schedule, at_round
from strategies.spec import Spec, Vector


@dataclass(frozen=True)
class Local:
    """How a client trained: its steps, and learning rate and momentum of its SGD."""

    steps: int
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False


Hook = Callable[[Any, Any, Any, Mapping[str, Any], Mapping[str, Any]], Any]
"""``hook(g, w, w0, shared, own) -> g'``: elementwise, in plain operators, one weight at a time."""

After = Callable[
    [Vector, Mapping[str, Any], Mapping[str, Vector], Local],
    tuple[Mapping[str, Vector], Mapping[str, Vector]],
]
"""``after(delta, shared, own, local) -> (extras, own')``: all vectors are [T].

What it makes by the name ``added`` is added to the update that is sent.
"""

ADDED = "added"

GRADIENT = "gradient"
"""Name of the extra that clients upload where the rule asks for gradients."""


@dataclass(frozen=True)
class ClientRule:
    """What a client does differently from plain local training.

    Args:
        name: for logs and configuration files.
        hook: changes the gradient. It gets the gradient ``g`` and the weights ``w`` now and
            ``w0`` as received, what the server shares and the client's own state, both by name
            and cut to the weight at hand (numbers stay numbers). It must use plain operators
            only, so that it runs inside the compiled graph and on NumPy arrays alike.
        after: makes the extra uploads and the client's next state, once per local training.
        scalars: numbers shared with every client, by name; a function of the round is a schedule.
        own: names of the state vectors that a client keeps between rounds; they start at zero.
        uploads: names of the extras that ``after`` makes, :data:`GRADIENT` where it is asked for,
            and :data:`~strategies.objective.OF_CLASSES` where the objective sees means of classes.
        uses: names of what the hook or ``after`` needs the server rule to share.
        full_batch: take one step on all local examples, whatever epochs and batch size are set.
        local: patterns of the names of weights that stay on the client (see strategies.personal).
        initial_loss: measure the mean training loss of the received model before training and
            report it as the metric ``initial_loss``.
        gradient: measure, before training, the gradient [T] of the received model's mean loss on
            all local examples, as the client's SGD takes it (with its weight decay and clipping,
            without its momentum), and upload it as :data:`GRADIENT`.
        discrepancy: report how far the client's labels are from those of all as the metric
            ``discrepancy``, and its examples over those of a client in the mean as
            ``relative_size``.
        sgd: clients must train with SGD; momentum is allowed for.
        objective: what is added to the loss, where gradients and weights are not all it goes by.
        frozen: patterns of the names of weights that are not trained (see strategies.personal).
        phases: trainings that a round's local training consists of, one after the other.
        second: clients keep a whole second model of their own, which is never sent.
        candidates: names of further models that the server shares; a client trains the one of all
            that has the least loss on its examples, and tells which as the metric ``cluster``.
        tuned: a training of the client's model before it is measured; what it learns is not kept.
        direction: makes the gradient of gradients at other points, where the one at the weights
            does not do.

    Raises:
        ValueError: for phases beside what is said of a training without any, or a direction beside
            an objective; for a hook in ``tuned``, where nothing is shared; for a gradient that is
            not among the uploads, or not of SGD; for means of classes that are not among them.
    """

    name: str = "plain"
    hook: Hook | None = None
    after: After | None = None
    scalars: Mapping[str, float | Schedule] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    uploads: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    full_batch: bool = False
    initial_loss: bool = False
    gradient: bool = False
    discrepancy: LabelDiscrepancy | None = None
    local: tuple[str, ...] = ()
    sgd: bool = False
    objective: Objective | None = None
    frozen: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    second: bool = False
    direction: Direction | None = None
    tuned: Phase | None = None
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.direction is not None and self.objective is not None:
            raise ValueError(
                f"objective of client rule {self.name!r} must be left out beside a direction"
            )
        if self.tuned is not None and self.tuned.hook is not None:
            raise ValueError(
                f"tuned of client rule {self.name!r} must have no hook, as nothing is shared when "
                "models are measured"
            )
        if self.gradient and not (self.sgd and GRADIENT in self.uploads):
            raise ValueError(
                f"gradient of client rule {self.name!r} must be among its uploads, and of clients "
                f"with sgd, got uploads {self.uploads} and sgd {self.sgd}"
            )
        told = self.objective is not None and self.objective.means
        if told and not set(OF_CLASSES) <= set(self.uploads) & set(self.uses):
            raise ValueError(
                f"means of classes of client rule {self.name!r} must be among its uploads and "
                f"uses, got uploads {self.uploads} and uses {self.uses}"
            )
        if not self.phases:
            return
        beside = [name for name in ALONE if getattr(self, name)]
        if beside:
            raise ValueError(
                f"phases must say all that client rule {self.name!r} changes of a training, got "
                f"{', '.join(beside)} beside them"
            )
        if all(phase.second for phase in self.phases):
            raise ValueError(
                f"phases of client rule {self.name!r} must train the model that is sent, got none "
                "that does"
            )

    @property
    def kept(self) -> tuple[str, ...]:
        """Patterns of the names of weights of which clients keep their own: see ``local``."""
        return (EVERYTHING,) if self.second else self.local

    @property
    def personal(self) -> bool:
        """Whether what is measured of clients are models of their own."""
        return bool(self.kept or self.candidates) or self.tuned is not None

    @property
    def scattered(self) -> bool:
        """Whether no model of the server's is one that is meant for all clients."""
        return bool(self.local or self.candidates)

    def size(self, name: str, trainable: int) -> int:
        """Return how many numbers one of the states ``own`` has, of T trained weights."""
        if name == SECOND and self.direction is not None:
            return self.direction.size(trainable)
        return trainable

    def sent(self, spec: Spec) -> int:
        """Return how many numbers a client of a model uploads beside its update."""
        classes, numbers = spec.of_classes
        others = {MEANS: classes * numbers, KNOWN: classes}
        return sum(others.get(name, spec.trainable_size) for name in self.uploads)

    @property
    def keeps(self) -> bool:
        """Whether clients keep anything from round to round."""
        return bool(self.own or self.kept)

    def share(self, round: int) -> dict[str, float]:
        """Return the shared numbers of a round."""
        return {name: at_round(value, round) for name, value in self.scalars.items()}


ALONE = (
    "hook",
    "after",
    "own",
    "uploads",
    "full_batch",
    "initial_loss",
    "gradient",
    "objective",
    "frozen",
    "direction",
    "candidates",
)
"""What a client rule with phases has not."""
