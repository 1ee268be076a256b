"""The section ``devices``: what clients compute on, their links, when they are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from simulation.config.contents import content_sha256
from simulation.config.fields import Float, NotNegative, Positive, Section, is_number

SPREADS = {"lognormal": 1.0, "uniform": 4.0, "zipf": 2.0}
"""Kinds of devices that are drawn at random, with their usual spread."""

PROFILES = ("phone-low", "phone-mid", "phone-high", "laptop", "server")
"""Names of the shipped profiles (see :mod:`simulation.population.profiles`)."""

TIERS = ("phone-low", "phone-mid", "phone-high")
"""Profiles of ``tiers`` unless others are named."""

STEP_SECONDS = 0.1
"""Seconds of a local step where nothing is said."""

CONTENTS = {"path": "path_sha256", "trace": "trace_sha256"}
"""Keys that name a file, and where the sha256 of its content stands."""


def _availability(value: Any) -> Any:
    if value in ("always", "diurnal", "trace"):
        return value
    if is_number(value) and 0 < value <= 1:
        return float(value)
    raise ValueError("must be 'always', 'diurnal', 'trace' or a probability in (0, 1]")


class Devices(Section):
    """What clients compute on, for simulated time (see :mod:`simulation.population.devices`).

    ``kind``: ``equal``, drawn by ``lognormal``, ``uniform`` or ``zipf``, of shipped profiles
    (``tiers``), or of a file.
    ``path``: of the file, CSV or Parquet, with a column for each property.
    ``path_sha256``: of its content, found when it is left out.
    ``step_seconds``: seconds of a local step, 0.1 unless speeds are given otherwise.
    ``examples_per_second``: examples that a client trains on in a second, in the place of it.
    ``spread``: how unlike the clients are; of the logarithm's normal law (1), of slowness uniform
    on [1, 1 + spread] (4), exponent of Zipf's law of slowness (2).
    ``profiles``: names of shipped profiles, for ``tiers``.
    ``shares``: what part of the clients has each of them; all alike by default.
    ``up``: bytes a second that it sends, without limit by default.
    ``down``: bytes a second that it receives, likewise.
    ``latency``: seconds that a message takes besides.
    ``network_spread``: deviation of the logarithm of the clients' bytes a second.
    ``idle_watts``: power during the latency.
    ``compute_watts``: power while it trains.
    ``network_watts``: power while it sends or receives.
    ``availability``: when clients can be asked: ``always``, a probability, ``diurnal`` or a
    ``trace``.
    ``period``: seconds for which a draw of availability holds.
    ``lowest``: probability at the worst hour of a day, for ``diurnal``.
    ``highest``: at the best one.
    ``peak_hour``: the local hour of that.
    ``time_zones``: hours from the clock's, of which each client has one.
    ``trace``: a file with the columns ``client``, ``start``, ``end`` (seconds); it repeats itself.
    ``trace_sha256``: of its content, found when it is left out.
    """

    kind: Literal["equal", "lognormal", "uniform", "zipf", "tiers", "file"] = "equal"
    path: Path | None = None
    path_sha256: str = ""
    step_seconds: Positive | None = None
    examples_per_second: Positive | None = None
    spread: Positive | None = None
    profiles: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    shares: tuple[Positive, ...] | None = None
    up: Positive | None = None
    down: Positive | None = None
    latency: NotNegative | None = None
    network_spread: NotNegative = 0.0
    idle_watts: NotNegative | None = None
    compute_watts: NotNegative | None = None
    network_watts: NotNegative | None = None
    availability: Annotated[str | float, BeforeValidator(_availability)] = "always"
    period: Positive = 3600.0
    lowest: Annotated[Float, Field(ge=0, le=1)] = 0.05
    highest: Annotated[Float, Field(gt=0, le=1)] = 0.5
    peak_hour: Annotated[Float, Field(ge=0, lt=24)] = 2.0
    time_zones: Annotated[tuple[Float, ...], Field(min_length=1)] = (0.0,)
    trace: Path | None = None
    trace_sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _contents(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        if data.get("path") is not None and "kind" not in data:
            data["kind"] = "file"
        if data.get("trace") is not None and "availability" not in data:
            data["availability"] = "trace"
        for key, digest in CONTENTS.items():
            if data.get(key) is not None and not data.get(digest):
                data[digest] = content_sha256(f"devices.{key}", Path(str(data[key])))
        return data

    @field_validator("profiles")
    @classmethod
    def _known(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [name for name in value or () if name not in PROFILES]
        if unknown:
            raise ValueError(
                f"devices.profiles must be of {', '.join(PROFILES)}, got {unknown[0]!r}"
            )
        return value

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> Devices:
        given = {name for name in type(self).model_fields if self._said(name)}
        for name, kinds in _ONLY.items():
            if name in given and self.kind not in kinds:
                raise ValueError(
                    f"devices.{name} must be left out for devices of the kind {self.kind!r}, "
                    f"got {getattr(self, name)!r}"
                )
        for name, ways in _WHEN.items():
            if name in given and self._way not in ways:
                raise ValueError(
                    f"devices.{name} must be left out unless devices.availability is "
                    f"{' or '.join(ways)}, got {getattr(self, name)!r}"
                )
        return self._complete()

    @property
    def _way(self) -> str:
        return self.availability if isinstance(self.availability, str) else PROBABLE

    def _said(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def _complete(self) -> Devices:
        if self.step_seconds is not None and self.examples_per_second is not None:
            raise ValueError(
                "devices.step_seconds and devices.examples_per_second must not both be given, "
                f"got {self.step_seconds:g} and {self.examples_per_second:g}"
            )
        if self.kind == "file" and self.path is None:
            raise ValueError("devices.path must be given for the kind 'file', got none")
        if self.availability == "trace" and self.trace is None:
            raise ValueError("devices.trace must be given for availability 'trace', got none")
        if self.kind == "zipf" and (self.spread or 2.0) <= 1:
            raise ValueError(f"devices.spread must be > 1 for the kind 'zipf', got {self.spread}")
        if self.shares is not None and len(self.shares) != len(self.profiles or TIERS):
            raise ValueError(
                f"devices.shares must have one for each of {len(self.profiles or TIERS)} profiles, "
                f"got {len(self.shares)}"
            )
        if self.lowest > self.highest:
            raise ValueError(
                f"devices.lowest must be at most devices.highest ({self.highest:g}), "
                f"got {self.lowest:g}"
            )
        return self


PROBABLE = "a probability"

_DRAWN = ("equal", *SPREADS)

_ONLY = {
    "path": ("file",),
    "spread": tuple(SPREADS),
    "profiles": ("tiers",),
    "shares": ("tiers",),
    "step_seconds": _DRAWN,
    "examples_per_second": _DRAWN,
    "up": _DRAWN,
    "down": _DRAWN,
    "latency": _DRAWN,
    "network_spread": (*_DRAWN, "tiers"),
    "idle_watts": _DRAWN,
    "compute_watts": _DRAWN,
    "network_watts": _DRAWN,
}
"""Keys that have a use for some kinds alone."""

_DAILY = ("diurnal",)

_WHEN = {
    "period": (PROBABLE, *_DAILY),
    "lowest": _DAILY,
    "highest": _DAILY,
    "peak_hour": _DAILY,
    "time_zones": _DAILY,
    "trace": ("trace",),
}
"""Keys that have a use for some kinds of availability alone."""
