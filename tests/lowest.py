"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

``make lowest`` installs by these. The tools of the tests are not pinned: only what is shipped
promises a range.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(project: Mapping[str, Any]) -> dict[str, str]:
    """Return the lower bound of every dependency, those of the extras included.

    Args:
        project: the table ``project`` of a pyproject.toml.

    Raises:
        ValueError: for a dependency without just one lower bound.
    """
    found: dict[str, str] = {}
    for texts in (project["dependencies"], *project["optional-dependencies"].values()):
        for text in texts:
            asked = Requirement(text)
            bounds = {s.version for s in asked.specifier if s.operator == ">="}
            bounds |= {found[asked.name]} if asked.name in found else set()
            if len(bounds) != 1:
                raise ValueError(f"{asked.name} must have one lower bound, got {sorted(bounds)}")
            (found[asked.name],) = bounds
    return found


if __name__ == "__main__":
    pins = lowest(tomllib.loads(PROJECT.read_text())["project"])
    print("\n".join(f"{name}=={version}" for name, version in pins.items()))
