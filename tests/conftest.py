from __future__ import annotations

import gc
import os
from typing import Any

import pytest

# Some tests import TensorFlow before Sunflower does, which would set this: see docs/determinism.md.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Looks for garbage among millions of objects took a tenth of the suite's time.
gc.set_threshold(100_000, 50, 100)

FIRST = (
    "test_pool_faults", "test_jax", "test_cases", "test_jax_catalogue", "test_as_fit",
    "test_notebook", "test_endings", "test_figures", "test_report",
)  # fmt: skip
"""Files that take longest: begun first, so that no process is left with one at the end."""


ON_RAY = (
    "engines/ray/test_pool_faults.py", "engines/ray/test_engine.py", "engines/ray/test_groups.py",
    "engines/ray/test_pieces.py", "engines/ray/test_agent.py", "engines/ray/test_joining.py",
    "engines/test_battery.py", "engines/test_engines.py", "studies/test_side_by_side.py",
    "records/test_records.py", "records/test_client_states.py", "worker/test_personal.py",
    "flower/test_app.py",
)  # fmt: skip
"""Files whose tests share a Ray and its workers: one process runs them all."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out files as ``--dist loadfile`` does, those on Ray as if they were one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "on Ray" if file.endswith(ON_RAY) else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first.

    Raises:
        pytest.UsageError: where a test is called by an address, which each process has its own of.
    """
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} must have an id that all processes agree on")

    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return FIRST.index(name) if name in FIRST else len(FIRST)

    items.sort(key=place)
