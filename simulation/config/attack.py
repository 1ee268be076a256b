"""The section of the configuration about clients that attack."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulation.config.fields import Float, Int, Section

AttackKind = Literal[
    "label-flip",
    "sign-flip",
    "noise",
    "scale",
    "free-rider",
    "alie",
    "ipm",
    "min-max",
    "min-sum",
    "fang",
    "backdoor",
    "semantic-backdoor",
]
"""What attackers do."""

COLLUDING = ("alie", "ipm", "min-max", "min-sum", "fang")
"""Attacks of clients that know what the honest ones of a round send."""


SEMANTIC = "semantic-backdoor"

_USES = {
    "source": ("label-flip", SEMANTIC),
    "target": ("label-flip", "backdoor", SEMANTIC),
    "poisoned": ("backdoor", SEMANTIC),
    "feature": (SEMANTIC,),
    "rare": (SEMANTIC,),
}
"""Options that some attacks alone have."""


class Attack(Section):
    """Clients that attack (see :mod:`simulation.population.attackers`).

    ``kind``: None for no attack. ``fraction``: of the registered clients. ``strength``: None for
    that of :data:`simulation.population.attackers.STRENGTH`. ``source``: the class whose labels are
    flipped; None for all. ``target``: the class that they become, or that a backdoor's pattern
    stands for. ``poisoned``: part of an attacker's examples with the pattern, or that give way.
    ``feature``, ``rare``: which part of the source class a semantic backdoor is for.
    """

    kind: AttackKind | None = None
    fraction: Annotated[Float, Field(gt=0, le=1)] = 0.2
    strength: Annotated[Float, Field(ge=0)] | None = None
    source: Annotated[Int, Field(ge=0)] | None = None
    target: Annotated[Int, Field(ge=0)] | None = None
    poisoned: Annotated[Float, Field(gt=0, le=1)] | None = None
    feature: Literal["edge", "bright", "dark"] | None = None
    rare: Annotated[Float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _options_have_a_use(self) -> Attack:
        fields = type(self).model_fields
        given = any(getattr(self, name) != field.default for name, field in fields.items())
        if self.kind is None and given:
            raise ValueError("attack.kind must be given where attack has options, got none")
        if self.kind in ("label-flip", "min-max", "min-sum") and self.strength is not None:
            raise ValueError(
                f"attack.strength must be left out for {self.kind!r}, got {self.strength!r}"
            )
        if self.kind == "fang" and self.strength is not None and self.strength < 1:
            raise ValueError(f"attack.strength must be >= 1 for 'fang', got {self.strength!r}")
        for name, kinds in _USES.items():
            value = getattr(self, name)
            if value is not None and self.kind not in kinds:
                raise ValueError(f"attack.{name} must be left out for {self.kind!r}, got {value}")
        if self.kind == "label-flip" and (self.source is None) != (self.target is None):
            missing = "source" if self.source is None else "target"
            raise ValueError(
                f"attack.{missing} must be given where one class is flipped to another, got none"
            )
        for name in ("source", "target"):
            if self.kind == SEMANTIC and getattr(self, name) is None:
                raise ValueError(f"attack.{name} must be given for {SEMANTIC!r}, got none")
        if self.source is not None and self.source == self.target:
            raise ValueError(f"attack.target must be another class than source, got {self.target}")
        return self
