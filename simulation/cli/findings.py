"""What a check of ``sunflower doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        what: it looked at.
        state: ``broken`` where Sunflower cannot run without; ``note`` where something is missing.
        found: what is there.
        mend: how to mend it; empty where nothing is to be done.
    """

    what: str
    state: State
    found: str
    mend: str = ""
