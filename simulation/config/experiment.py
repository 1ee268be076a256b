"""The configuration of an experiment: typed, validated, readable from and writable to TOML.

An experiment says everything that decides the result; :class:`Resources` says only where and how
fast it runs. Two experiments with equal :meth:`Experiment.digest` give equal bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomli_w
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from simulation.config import cohorts, decay, ending, plugins, sampling, scheduling
from simulation.config.attack import Attack
from simulation.config.compression import Compression
from simulation.config.devices import Devices
from simulation.config.ending import Save, Stop
from simulation.config.errors import ConfigError
from simulation.config.explain import explain
from simulation.config.fields import Count, Int, Section, is_number
from simulation.config.identity import revised
from simulation.config.initial import ENDINGS
from simulation.config.partitioning import PartitionConfig
from simulation.config.sampling import Sampling
from simulation.config.scheduling import Schedule
from simulation.config.sections import (
    Data,
    Evaluation,
    Faults,
    Init,
    Realism,
    Resources,
    StrategyConfig,
    Tracks,
    Training,
)
from strategies import catalog, checks
from strategies.schedules import in_words

MODELS = ("cnn", "lenet", "mlp", "logistic")
"""Names of the built-in models (see :mod:`simulation.training.keras.models`)."""

WEIGHTED = ("by-size", "power-of-choice")
"""Kinds of sampling that go by the clients' sizes."""

OMIT_IF_DEFAULT = (
    "sampling", "attack", "data", "init", "devices", "schedule", "stop", "save", "compression",
)  # fmt: skip
"""Tables that count for the identity of a run only where they differ from the default."""

OMIT_KEYS_IF_DEFAULT = {
    "training": ("class_weight", "decay", "local_steps"),
    "partition": (
        "law", "beta", "groups", "path_sha256", "noise", "rotations", "root",
    ),
    "evaluation": ("personal", "all_clients", "metrics"),
    "attack": ("source", "target", "poisoned", "feature", "rare"),
    "sampling": (
        "exploration", "exploration_decay", "exploration_least", "penalty", "preferred", "pace",
        "pace_step", "tiers", "credits", "adapt",
    ),
    "schedule": (
        "concurrency", "buffer", "interval", "staleness", "exponent", "hinge_slope", "hinge_from",
        "max_staleness", "mixing", "edges", "edge_rounds", "group_by", "edge_up", "edge_down",
        "edge_latency", "cloud",
    ),
    "data": ("label_type", "weight", "encode", "scale"),
    "compression": ("download",),
}  # fmt: skip
"""Keys of tables that came later still: they count only where they differ from the default."""

OMIT_PLACES: dict[str, Any] = {
    "init": {"path"},
    "devices": {"path", "trace"},
    "partition": {"path"},
}
"""Keys that say where a file is."""

SHORT = {
    "strategy": "name", "partition": "kind", "sampling": "kind", "attack": "kind", "init": "path",
    "devices": "kind", "schedule": "kind", "compression": "kind",
}  # fmt: skip
"""Tables that may be written as a string, and the key that it stands for."""

SHORT_WITHIN = {"optimizer": "name", "decay": "kind", "cloud": "name", "download": "kind"}
"""Likewise, tables within the tables ``training``, ``schedule`` and ``compression``."""


def _is_cohort(value: float) -> bool:
    return 0 < value <= 1 or (1 < value < math.inf and value == int(value))


class Experiment(Section):
    """One run, complete: data, clients, model, local training, strategy, rounds and seed.

    ``model`` and ``dataset`` take functions too, and keep their names (see
    :mod:`simulation.config.given`). Raises ConfigError with one line per problem.
    """

    name: str | None = None
    mode: Literal["federated", "centralised", "local"] = "federated"
    dataset: str = "fashion-mnist"
    data_dir: Path | None = None
    data: Data = Data()
    model: str = "cnn"
    init: Init | None = None
    clients: Count = 100
    cohort: int | float | None = None
    rounds: Count = 10
    seed: Annotated[Int, Field(ge=0, lt=2**63)] = 0
    partition: PartitionConfig = PartitionConfig()
    training: Training = Training()
    strategy: StrategyConfig = StrategyConfig()
    evaluation: Evaluation = Evaluation()
    sampling: Sampling = Sampling()
    attack: Attack = Attack()
    compression: Compression = Compression()
    faults: Faults = Faults()
    realism: Realism = Realism()
    devices: Devices | None = None
    schedule: Schedule = Schedule()
    stop: Stop = Stop()
    save: Save = Save()
    resources: Resources = Resources()
    track: Tracks = ()

    if not TYPE_CHECKING:  # Checkers of types take the signature from the fields.

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise ConfigError("\n".join(explain(error, Experiment))) from None

    @field_validator(*SHORT, mode="before")
    @classmethod
    def _table(cls, value: Any, info: ValidationInfo) -> Any:
        short = isinstance(value, str | Path)
        return {SHORT[str(info.field_name)]: str(value)} if short else value

    @field_validator("cohort", mode="before")
    @classmethod
    def _cohort(cls, value: Any) -> Any:
        if value is not None and not (is_number(value) and _is_cohort(value)):
            raise ValueError("must be a number of clients (>= 1) or a fraction in (0, 1]")
        return value if value is None or value <= 1 else int(value)

    @field_validator("model", "dataset", mode="before")
    @classmethod
    def _function(cls, value: Any) -> Any:
        return plugins.pinned(value)

    @field_validator("model")
    @classmethod
    def _model(cls, value: str) -> str:
        if ":" not in value:
            if value.endswith(ENDINGS):
                raise ValueError(
                    "model must be a name or module:function, with the weights of a file as init "
                    f"(--init {value}), got {value!r}"
                )
            checks.one_of("model", value, [*MODELS, "module:function"])
        return value

    @field_validator("strategy")
    @classmethod
    def _strategy(cls, value: StrategyConfig) -> StrategyConfig:
        if ":" not in value.name:
            catalog.build(value.name, **value.options)
        return value

    @model_validator(mode="after")
    def _cohort_fits(self) -> Experiment:
        if self.cohort_size < 1:
            raise ValueError(
                f"cohort must select at least 1 client, got {self.cohort!r} of {self.clients}"
            )
        if self.cohort_size > self.clients:
            raise ValueError(
                f"cohort must be at most clients ({self.clients}), got {self.cohort!r}"
            )
        if self.faults.min_replies > self.cohort_size:
            raise ValueError(
                f"faults.min_replies must be at most the cohort ({self.cohort_size}), "
                f"got {self.faults.min_replies}"
            )
        few, least = self.sampling.candidates, self.realism.asked(self.cohort_size, self.clients)
        if self.mode == "federated" and few is not None and not least <= few <= self.clients:
            extra = " and realism.over_selection" if self.realism.over_selection else ""
            raise ValueError(
                f"sampling.candidates must be between cohort{extra} ({least}) and clients "
                f"({self.clients}), got {few}"
            )
        if self.sampling.kind == "round-robin" and self.realism.availability < 1:
            raise ValueError(
                "sampling must be another than 'round-robin' where realism.availability is below "
                "1: who is away at its turn would miss it, and others would be asked more often"
                f", got {self.realism.availability:g}"
            )
        if self.evaluation.all_clients is True and self.resources.engine == "flower":
            raise ValueError(
                "evaluation.all_clients must be false or 'auto' with the engine 'flower', which "
                "measures whom a strategy asks, got True"
            )
        if self.sampling.kind in WEIGHTED and self.resources.engine == "flower":
            raise ValueError(
                "sampling must be uniform, poisson or round-robin with the engine 'flower', whose "
                f"server does not know the clients' sizes, got {self.sampling.kind!r}"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Experiment:
        scheduling.check(self)
        sampling.check(self)
        ending.check(self)
        decay.check(self)
        return self

    @property
    def cohort_size(self) -> int:
        """Clients that train in a round: all of them where each trains alone."""
        if self.cohort is None or self.mode == "local":
            return self.clients
        if isinstance(self.cohort, float) and self.cohort <= 1:
            return int(self.cohort * self.clients + 1e-9)
        return int(self.cohort)

    @property
    def label(self) -> str:
        """Name for tables and figures: given, or made of the strategy and its options."""
        if self.name:
            return self.name
        if self.mode != "federated":
            return self.mode.capitalize()
        options = ", ".join(
            f"{k}={in_words(v) if isinstance(v, Mapping) else v}"
            for k, v in sorted(self.strategy.options.items())
        )
        known = ":" not in self.strategy.name
        title = catalog.entry(self.strategy.name).title if known else self.strategy.name
        return f"{title}({options})" if options else title

    def decisive(self) -> dict[str, Any]:
        """Return the settings that decide the result, as JSON values."""
        # What is not simulated leaves no trace, so that older runs keep their identity.
        plain = (set() if self.realism.active else {"realism"}) | cohorts.unsaid(self)
        fields = type(self).model_fields
        plain |= {name for name in OMIT_IF_DEFAULT if getattr(self, name) == fields[name].default}
        left_out: Any = {"name", "data_dir", "faults", "resources", "track"} | plain
        # Wherever a file is: its content decides.
        found = self.model_dump(mode="json", exclude=OMIT_PLACES | dict.fromkeys(left_out, True))
        for table, keys in OMIT_KEYS_IF_DEFAULT.items():
            section = getattr(self, table)
            fields = type(section).model_fields
            for key in keys:
                if table in found and getattr(section, key) == fields[key].default:
                    del found[table][key]
        # Which draws there are is said by what was revised: independent ones are the older.
        found.get("realism", {}).pop("straggler_draws", None)
        return found | ({"revised": changes} if (changes := revised(self)) else {})

    def digest(self) -> str:
        """Return the sha256 of :meth:`decisive`: the identity of a run."""
        text = json.dumps(self.decisive(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_toml(self) -> str:
        """Return the experiment as TOML, without the keys that are unset."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def replace(self, **changes: Any) -> Experiment:
        """Return a copy with dotted or plain keys changed, validated again."""
        data = self.model_dump(mode="python", exclude_unset=True)
        for key, value in changes.items():
            assign(data, key, value)
        return parse(data)


def assign(data: dict[str, Any], dotted: str, value: Any) -> None:
    """Set ``data["a"]["b"] = value`` for the key ``a.b``."""
    *path, last = dotted.split(".")
    for name in path:
        inner = data.setdefault(name, {})
        short = SHORT if name is path[0] else SHORT_WITHIN
        if isinstance(inner, str) and name in short:
            inner = data[name] = {short[name]: inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"{name} must be a table, as {dotted} is in it, got {inner!r}")
        data = inner
    data[last] = value


def parse(data: Mapping[str, Any]) -> Experiment:
    """Validate a mapping. Raises ConfigError with one line per problem."""
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Experiment))) from None


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ConfigError when it is missing or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
