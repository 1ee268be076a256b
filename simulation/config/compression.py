"""The section ``compression``: how clients, and the server, encode what they send."""

from __future__ import annotations

from copy import copy
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simulation.config.errors import ConfigError
from simulation.config.fields import Count, Float, Positive, Section
from simulation.config.sizes import FLOAT_BYTES
from strategies import Federated, WeightedMean
from strategies.encodings.broadcast import Broadcast
from strategies.encodings.encoding import Encoding
from strategies.encodings.low_rank import LowRank
from strategies.encodings.quantised import QSGD, Rounding, ScaledSign, Ternary
from strategies.encodings.reading import Reader
from strategies.encodings.sketch import CountSketch
from strategies.encodings.sparse import RandomK, TopK
from strategies.encodings.votes import MajorityVote, Signs
from strategies.spec import Spec

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment

KINDS: dict[str, Any] = {
    "top-k": TopK, "random-k": RandomK, "qsgd": QSGD, "sign": ScaledSign, "majority-vote": Signs,
    "ternary": Ternary, "rounding": Rounding, "low-rank": LowRank, "sketch": CountSketch,
}  # fmt: skip
"""Encodings by name."""

_FEEDBACK = "error_feedback"


def options_of(kind: str) -> dict[str, Any]:
    """Return the options of a kind by their keys, with their defaults."""
    known = fields(KINDS[kind]) if kind in KINDS else ()
    found = {_FEEDBACK if one.name == "feedback" else one.name: one.default for one in known}
    return found | ({"step": None} if kind == "majority-vote" else {})


class Options(Section):
    """Options of encodings, whoever sends: see :class:`Compression`."""

    kind: str
    fraction: Annotated[Float, Field(gt=0, le=1)] | None = None
    bits: Count | None = None
    bucket: Count | None = None
    stochastic: bool | None = None
    rank: Count | None = None
    rows: Count | None = None
    keep: Annotated[Float, Field(gt=0, le=1)] | None = None


class Download(Options):
    """How the server encodes its model for clients (see :mod:`strategies.encodings.broadcast`).

    ``kind``: the encoding; the other keys are those of :class:`Compression`.
    """

    kind: Literal["top-k", "random-k", "qsgd", "sign", "rounding", "low-rank", "sketch"]

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Download:
        _fill(self, "download.", f"the download {self.kind!r}", options_of(self.kind))
        try:
            self.encoding()
        except ValueError as error:
            raise ValueError(f"compression.download.{error}") from None
        return self

    def encoding(self) -> Encoding:
        """Return the encoding, for a sender that keeps what it has not sent."""
        known = options_of(self.kind)
        given = {key: getattr(self, key) for key in known if key != _FEEDBACK}
        if _FEEDBACK in known:
            given["feedback"] = True
        found: Encoding = KINDS[self.kind](**given)
        return found


def _fill(section: Section, prefix: str, what: str, options: dict[str, Any]) -> None:
    """Record what a kind has by default; raise ValueError for keys that it has no use for."""
    for name in set(type(section).model_fields) - {"kind", "download"}:
        value = getattr(section, name)
        if value is None:  # What a kind has by default is recorded, but was not given.
            vars(section)[name] = options.get(name)
        elif name not in options:
            raise ValueError(
                f"compression.{prefix}{name} must be left out for {what}, got {value!r}"
            )


def _kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class Compression(Options):
    """How clients encode their update (see :mod:`strategies.encodings`), and the server its model.

    ``kind``: the encoding. ``fraction``: of the entries, for ``top-k`` and ``random-k``;
    counters by entries, for ``sketch``. ``rows``: of its table. ``keep``: of the entries it reads.
    ``bits``: of an entry, for ``qsgd`` and ``rounding``. ``bucket``: entries of one norm, for
    ``qsgd``. ``stochastic``: round at random, for ``rounding``. ``rank``: for ``low-rank``.
    ``step``: how far the server moves an entry, for ``majority-vote``.
    ``error_feedback``: clients keep what they have not sent for their next update; by default with
    ``top-k``, ``random-k``, ``sign``, ``low-rank`` and ``sketch``. ``download``: how the model
    comes to the clients; None: as it is.
    """

    kind: Literal[
        "none", "top-k", "random-k", "qsgd", "sign", "majority-vote", "ternary", "rounding",
        "low-rank", "sketch",
    ] = "none"  # fmt: skip
    step: Positive | None = None
    error_feedback: bool | None = None
    download: Annotated[Download | None, BeforeValidator(_kind)] = None

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Compression:
        _fill(self, "", f"the compression {self.kind!r}", options_of(self.kind))
        if self.kind == "majority-vote" and self.step is None:
            raise ValueError(
                "compression.step must be given for the compression 'majority-vote', got none"
            )
        try:
            self.encoding()
        except ValueError as error:
            raise ValueError(f"compression.{error}") from None
        return self

    def encoding(self) -> Encoding | None:
        """Return the encoding; None where updates travel as they are."""
        if self.kind == "none":
            return None
        given = {key: getattr(self, key) for key in options_of(self.kind) if key != "step"}
        if _FEEDBACK in given:
            given["feedback"] = given.pop(_FEEDBACK)
        found: Encoding = KINDS[self.kind](**given)
        return found


def encoding_of(experiment: Experiment) -> Encoding | None:
    """Return how a run's clients encode their updates; None where they do not, or send nothing."""
    return experiment.compression.encoding() if experiment.mode == "federated" else None


def broadcast_of(experiment: Experiment, spec: Spec) -> Broadcast | None:
    """Return how a run's server encodes its model; None where it does not, or sends none.

    Args:
        experiment: the experiment.
        spec: of the model.
    """
    plan = experiment.compression.download
    if plan is None or experiment.mode != "federated":
        return None
    shapes = spec.shapes[: spec.trainable]
    return Broadcast(plan.encoding(), shapes, spec.trainable_size, experiment.seed)


def encoded_bytes(experiment: Experiment, spec: Spec) -> int | None:
    """Return how many bytes a client's encoded update has; None where it is not encoded.

    Args:
        experiment: the experiment.
        spec: of the model, whose moving statistics travel as they are.
    """
    encoding = encoding_of(experiment)
    if encoding is None:
        return None
    rest = FLOAT_BYTES * (spec.size - spec.trainable_size)
    return encoding.length(spec.shapes[: spec.trainable]) + rest


def compressed(experiment: Experiment, strategy: Any) -> Any:
    """Return the strategy of clients that encode their updates, which reads what they send.

    Args:
        experiment: the experiment.
        strategy: what it runs.

    Raises:
        ConfigError: for a strategy that cannot have it.
    """
    kind = experiment.compression.kind
    encoding = encoding_of(experiment)
    _check_download(experiment, strategy)
    if encoding is None:
        return strategy
    why = _why_not(strategy)
    if why is not None:
        raise ConfigError(f"compression must be left out {why}, got {kind!r}")
    strategy = copy(strategy)
    strategy.reader = Reader(encoding, experiment.seed)
    if kind != "majority-vote":
        return strategy
    if not isinstance(strategy.algorithm.reducer, WeightedMean):
        raise ConfigError(
            "strategy must average its clients' updates with the compression 'majority-vote', "
            f"whose server counts signs, got {strategy.algorithm.name}"
        )
    step = experiment.compression.step
    assert step is not None
    strategy.algorithm = replace(strategy.algorithm, reducer=MajorityVote(step))
    return strategy


def _why_not(strategy: Any) -> str | None:
    if not isinstance(strategy, Federated):
        return "with a Flower strategy, whose messages hold whole arrays"
    algorithm = strategy.algorithm
    if algorithm.noise is not None:
        return "with noise for differential privacy"
    if algorithm.client.uploads:
        return f"with {algorithm.name}, whose clients send more than their update"
    if algorithm.client.candidates:
        return f"with {algorithm.name}, whose clients send updates of one of several models"
    if algorithm.client.local:
        return f"with {algorithm.name}, of whose model a part stays on the clients"
    return None


def _check_download(experiment: Experiment, strategy: Any) -> None:
    """Raise ConfigError for a model that cannot come encoded to the clients."""
    plan, where = experiment.compression.download, experiment.resources.engine
    if plan is None or experiment.mode != "federated":
        return
    schedule = experiment.schedule
    why = None
    if not isinstance(strategy, Federated):
        why = "with a Flower strategy, whose messages hold whole arrays"
    elif where == "flower":
        why = "with the engine 'flower', whose messages hold whole models"
    elif strategy.algorithm.client.candidates:
        why = f"with {strategy.algorithm.name}, whose server has several models"
    elif strategy.algorithm.client.local:
        why = f"with {strategy.algorithm.name}, of whose model a part stays on the clients"
    elif schedule.one_by_one:
        why = f"with the schedule {schedule.kind!r}, whose clients have models of unlike age"
    elif schedule.kind == "hierarchical":
        why = "with the schedule 'hierarchical', whose edges have models of their own"
    if why is not None:
        raise ConfigError(f"compression.download must be left out {why}, got {plan.kind!r}")
