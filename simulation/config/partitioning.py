"""The section of how examples are dealt to clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simulation.config.contents import content_sha256
from simulation.config.fields import Count, Float, Int, Positive, Section

SKEWED = ("dirichlet", "inner-dirichlet", "on-demand", "pachinko", "quantity")
"""Kinds of partition that a concentration alpha shapes."""

ALPHAS = {"dirichlet": 0.5, "inner-dirichlet": 0.5, "pachinko": 0.1, "quantity": 0.5}
"""Concentrations where none is given; ``on-demand`` has none then."""

BETA = 10.0
"""Concentration of classes within a group, as in Reddi et al. (2021)."""

_ONLY = {
    "beta": ("pachinko",),
    "groups": ("pachinko",),
    "path": ("file",),
    "path_sha256": ("file",),
}
"""Keys that have a use for some kinds alone."""


class PartitionConfig(Section):
    """How examples are dealt to clients (see :mod:`simulation.population.partition`).

    ``path``: of a file that says whose each row is (see
    :mod:`simulation.population.partition_file`).
    ``root``: training examples that the server keeps, which no client has; None: it keeps none.
    ``noise``, ``rotations``: how clients' features differ (see
    :mod:`simulation.population.features`).
    """

    kind: Literal[
        "iid", "dirichlet", "inner-dirichlet", "pathological", "shards", "quantity", "pachinko",
        "on-demand", "natural", "file",
    ] = "iid"  # fmt: skip
    alpha: Positive | None = None
    beta: Positive | None = None
    groups: tuple[Annotated[Int, Field(ge=0)], ...] | None = None
    classes_per_client: Count = 2
    shards_per_client: Count = 2
    examples_per_client: Count = 100
    law: Literal["symmetric", "prior"] = "symmetric"
    validation: Annotated[Float, Field(ge=0, lt=1)] = 0.1
    root: Count | None = None
    path: Path | None = None
    path_sha256: str = ""
    noise: Positive | None = None
    rotations: Literal[2, 4] | None = None

    @model_validator(mode="before")
    @classmethod
    def _what_goes_without_saying(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        if "kind" not in data and data.get("path") is not None:
            data["kind"] = "file"
        elif "kind" not in data and data.get("alpha") is not None:
            data["kind"] = "dirichlet"
        kind = data.get("kind")
        if data.get("alpha") is None and isinstance(kind, str) and kind in ALPHAS:
            data["alpha"] = ALPHAS[kind]
        if data.get("beta") is None and kind == "pachinko":
            data["beta"] = BETA
        if data.get("path") is not None and not data.get("path_sha256"):
            data["path_sha256"] = content_sha256("partition.path", Path(str(data["path"])))
        return data

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> PartitionConfig:
        if self.alpha is not None and self.kind not in SKEWED:
            raise ValueError(
                f"partition.alpha must be left out for the partition {self.kind!r}, "
                f"got {self.alpha!r}"
            )
        if self.law != "symmetric" and (self.kind != "on-demand" or self.alpha is None):
            raise ValueError(
                "partition.law must be left out unless the partition is 'on-demand' with an alpha, "
                f"got {self.law!r}"
            )
        for name, kinds in _ONLY.items():
            if getattr(self, name) not in (None, "") and self.kind not in kinds:
                raise ValueError(
                    f"partition.{name} must be left out for the partition {self.kind!r}, "
                    f"got {getattr(self, name)!r}"
                )
        if self.kind == "file" and self.path is None:
            raise ValueError("partition.path must be given for the partition 'file', got none")
        for name in ("noise", "rotations"):
            if getattr(self, name) is not None and self.kind == "on-demand":
                raise ValueError(
                    f"partition.{name} must be left out for the partition 'on-demand', whose "
                    f"clients share rows, got {getattr(self, name)!r}"
                )
        return self
