"""What Sunflower uses of Ray beyond its public interface, each with the reason."""

from __future__ import annotations

from typing import Any

import ray


def pickled(function: Any) -> bytes:
    """Return a function with all that it uses of its script: ``pickle.loads`` gives it back."""
    return bytes(ray.cloudpickle.dumps(function))
