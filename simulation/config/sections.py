"""Sections of the configuration about who takes part, faults and realism; types of all fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from simulation.config.decay import Decay
from simulation.config.fields import Count, Float, Int, Positive, Section, is_number
from simulation.config.initial import sha256_of
from simulation.config.local_work import Batch, Epochs
from simulation.config.metrics import MetricNames
from simulation.config.optimizer import Optimizer, OptimizerField, without_momentum
from strategies import checks


def _class_number(value: Any) -> Any:
    # Keys of a TOML table are text.
    return int(value) if isinstance(value, str) and value.isdecimal() else value


ClassNumber = Annotated[Int, Field(ge=0), BeforeValidator(_class_number)]

NotNegative = Annotated[Float, Field(ge=0)]


class Training(Section):
    """Local training. ``None`` means: what the model was compiled with, else the default.

    ``local_steps``: optimiser steps that every client takes, in the place of epochs.
    ``class_weight``: weights of classes in the training loss, by number; 1 for those left out.
    ``decay``: how the learning rate changes from round to round (see
    :class:`simulation.config.decay.Decay`).
    """

    local_epochs: Epochs = 1
    local_steps: Count | None = None
    batch_size: Batch = 32
    optimizer: OptimizerField = None
    learning_rate: Positive | None = None
    momentum: Annotated[Float, Field(ge=0, lt=1)] = 0.0
    loss: str | None = None
    class_weight: dict[ClassNumber, NotNegative] | None = None
    decay: Decay | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_momentum(cls, data: Any) -> Any:
        return without_momentum(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> Training:
        if self.local_steps is not None and self.local_epochs != 1:
            raise ValueError(
                "training.local_epochs must be left out where training.local_steps says how much "
                f"clients train, got {self.local_epochs!r}"
            )
        return self

    @property
    def optimizer_name(self) -> str | None:
        """What the optimizer is called; None for the model's own."""
        return self.optimizer.name if isinstance(self.optimizer, Optimizer) else self.optimizer

    @property
    def optimizer_options(self) -> dict[str, Any]:
        """What it is made with, beside learning rate and momentum."""
        return self.optimizer.options if isinstance(self.optimizer, Optimizer) else {}


class StrategyConfig(BaseModel):
    """The strategy by name, with its options as further keys; validated by the catalogue."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "fedavg"

    @property
    def options(self) -> dict[str, Any]:
        """Return the options given for the strategy."""
        return dict(self.model_extra or {})


CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
"""Packages by which JAX computes on NVIDIA's GPUs."""


def _jax_with_cuda() -> bool:
    return find_spec("jax") is not None and any(find_spec(name) for name in CUDA_PLUGINS)


def has_gpu() -> bool:
    """Tell whether this machine has an NVIDIA GPU, as far as its driver says."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


class Resources(Section):
    """Where it runs. Nothing here changes a bit of the result, as long as all compute alike.

    ``backend``: what computes; ``auto``: JAX where workers have a GPU that JAX can use, else
    TensorFlow. ``lanes``: clients that a worker of JAX trains side by side; None: as many as its
    memory holds. Both decide last bits, so that a resumed run keeps them.
    ``client_gpus``: of a worker; None: 1 where the backend is chosen to be JAX and this machine has
    a GPU that it can use, else 0.
    ``cpu_nodes``: with GPUs, nodes that have none hold workers too, which compute on processors.
    """

    engine: Literal["ray", "flower", "inline"] = "ray"
    backend: Literal["auto", "tensorflow", "jax"] = "auto"
    lanes: Count | None = None
    workers: Count | None = None
    client_cpus: Annotated[Float, Field(ge=0)] = 1.0
    client_gpus: Annotated[Float, Field(ge=0)] | None = None
    cpu_nodes: bool = False
    address: str | None = None

    @property
    def library(self) -> Literal["tensorflow", "jax"]:
        """The backend that is meant: JAX by itself where workers have GPUs that it can use."""
        if self.backend != "auto":
            return self.backend
        return "jax" if self.gpus > 0 and _jax_with_cuda() else "tensorflow"

    @property
    def gpus(self) -> float:
        """The GPUs that are meant for a worker."""
        if self.client_gpus is not None:
            return self.client_gpus
        return 1.0 if self.backend == "jax" and _jax_with_cuda() and has_gpu() else 0.0

    @model_validator(mode="after")
    def _lanes_have_a_use(self) -> Resources:
        if self.lanes is not None and self.backend == "tensorflow":
            raise ValueError(
                f"resources.lanes must be left out with the backend 'tensorflow', got {self.lanes}"
            )
        return self

    @model_validator(mode="after")
    def _some_resource(self) -> Resources:
        if self.client_cpus == 0 and self.gpus == 0:
            raise ValueError("client_cpus or client_gpus must be greater than 0, got 0 for both")
        if self.cpu_nodes and not (self.gpus and self.client_cpus):
            raise ValueError(
                "cpu_nodes must be left out unless client_gpus and client_cpus are greater than 0, "
                f"got {self.gpus:g} and {self.client_cpus:g}"
            )
        return self


def _named(value: Any) -> Any:
    # The names of columns may be numbers: --set data.label=3 is the column "3".
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Column = Annotated[str, BeforeValidator(_named)]


class Data(Section):
    """How a dataset that comes from files or from Hugging Face is read; ``scale`` goes for all.

    ``features``, ``label``, ``owner``, ``weight``: names of columns. ``label_type``: labels are
    taken as ``classes`` or as ``numbers`` to predict. ``encode``: ``categories`` makes of a text
    column one input per text. ``test``: the part held out for testing where the dataset has none.
    ``subset``: a configuration of a Hugging Face dataset. ``scale``: the inputs' factor.
    """

    features: Annotated[tuple[Column, ...], Field(min_length=1)] | None = None
    label: Column | None = None
    label_type: Literal["classes", "numbers"] | None = None
    owner: Column | None = None
    weight: Column | None = None
    encode: Literal["categories"] | None = None
    test: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    subset: str | None = None
    scale: Annotated[Float, Field(gt=0)] | None = None

    @property
    def reads(self) -> bool:
        """Whether anything is said that only a dataset from files has."""
        return self.model_copy(update={"scale": None}) != Data()


class Evaluation(Section):
    """What is measured, and how often.

    ``personal``: on the server's test set, measure the clients' own models and record their mean.
    Where layers stay on clients the server's model is not whole: without it nothing is measured.
    ``metrics``: names of what is measured beyond loss and accuracy.
    ``all_clients``: every client at the end (see :mod:`simulation.rounds.fairness`); ``"auto"``:
    where it costs less than a tenth of the run.
    """

    server: bool = True
    personal: bool = False
    clients: bool = True
    every: Count = 1
    metrics: MetricNames = ()
    batch_size: Count = 500
    all_clients: bool | Literal["auto"] = "auto"

    def is_due(self, round: int, rounds: int) -> bool:
        """Tell whether a model is measured after a round, in a run of so many."""
        return round % self.every == 0 or round == rounds


def _policy(value: Any) -> Any:
    if value in ("fail", "skip") or (is_number(value) and 0 < value < 1):
        return value if isinstance(value, str) else float(value)
    raise ValueError("must be 'fail', 'skip' or a fraction in (0, 1)")


class Faults(Section):
    """What to do when something fails. Nothing here changes a bit of a run without faults.

    ``on_client_error``: ``fail``, ``skip``, or the fraction of a cohort that may be lost.
    ``chunk_timeout``: seconds after which a call counts as hung; None learns them from the run.
    ``attempts``: how many workers a call may take down. ``checkpoint_every``: rounds between two
    checkpoints; ``checkpoint_seconds``: the time between two; where neither is given, 10 seconds.
    """

    on_client_error: Annotated[str | float, BeforeValidator(_policy)] = "fail"
    min_replies: Count = 1
    chunk_timeout: Positive | None = None
    attempts: Count = 3
    checkpoint_every: Count | None = None
    checkpoint_seconds: Positive | None = None


Probability = Annotated[Float, Field(ge=0, lt=1)]


class Realism(Section):
    """Clients as they are outside (see :mod:`simulation.population.behaviour`).

    ``dropout``: probability that a client that was asked never answers. ``stragglers``: share of
    the clients asked in a round that do only a part of their local work.
    ``straggler_draws``: with ``exact``, round(K (1 - stragglers)) of the K asked keep up, with
    ``independent`` each straggles with that probability. ``drop_stragglers``: for all strategies,
    or those named, such clients do not count.
    ``availability``: probability that a client can be asked in a round.
    ``over_selection``: how many more are asked; the fastest of them count, and stragglers, which
    work until the deadline, after all others.
    """

    dropout: Probability = 0.0
    stragglers: Annotated[Float, Field(ge=0, le=1)] = 0.0
    straggler_draws: Literal["exact", "independent"] = "exact"
    drop_stragglers: bool | tuple[str, ...] = False
    availability: Annotated[Float, Field(gt=0, le=1)] = 1.0
    over_selection: Annotated[Float, Field(ge=0, le=10)] = 0.0

    @field_validator("drop_stragglers", mode="before")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise ValueError("must be true, false or a list of strategies' names")

    @property
    def active(self) -> bool:
        """Whether anything is simulated."""
        return self.model_copy(update={"straggler_draws": "exact"}) != Realism()

    def asked(self, cohort: int, there: int) -> int:
        """Return how many clients are asked for a cohort, of those that are there."""
        return min(there, math.ceil(cohort * (1 + self.over_selection)))

    def drops(self, strategy: str) -> bool:
        """Tell whether this strategy leaves stragglers out."""
        drop = self.drop_stragglers
        return drop if isinstance(drop, bool) else strategy in drop


TRACKERS = ("tensorboard", "mlflow", "wandb")
"""Names of the built-in trackers (see :mod:`simulation.listeners.trackers`)."""


class Track(BaseModel):
    """A tracker by name, with its options as further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Return the options given for the tracker."""
        return dict(self.model_extra or {})


def _tracks(value: Any) -> Any:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ValueError("must be a name, or a list of names and tables with a name")
    tracks = tuple({"name": one} if isinstance(one, str) else one for one in value)
    for name in [one.get("name") for one in tracks if isinstance(one, dict)]:
        if isinstance(name, str) and ":" not in name:
            checks.one_of("track", name, [*TRACKERS, "module:Class"])
    return tracks


Tracks = Annotated[tuple[Track, ...], BeforeValidator(_tracks)]


class Init(Section):
    """Weights to start from (see :mod:`simulation.config.initial`).

    ``path``: of the file. ``sha256``: of its content, found when it is left out.
    """

    path: Path
    sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _content(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and not data.get("sha256") and "path" in data:
            return {**data, "sha256": sha256_of(Path(str(data["path"])))}
        return data
