from __future__ import annotations

import os

import pytest

# Some tests import TensorFlow before Sunflower does, which would set this: see docs/determinism.md.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

FIRST = ("test_notebook", "test_nodes", "test_pool_faults", "test_side_by_side", "test_endings")
"""Files that take longest: begun first, so that no process is left with one at the end."""


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
