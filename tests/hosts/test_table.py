"""Every row of the tables in docs/clusters.md has its test, and every test its row."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from tests.hosts import test_faults, test_sharing
from tests.hosts.network import ROOT


@pytest.mark.parametrize(
    ("heading", "module"),
    [
        ("When a network or a host fails", test_faults),
        ("A cluster that others use, and hosts that come and go", test_sharing),
    ],
)
def test_each_row_names_a_test(heading: str, module: ModuleType) -> None:
    page = (ROOT / "docs/clusters.md").read_text()
    table = page.partition(f"## {heading}")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert rows and all(named), rows
    tests = {name for name in vars(module) if name.startswith("test_")}
    assert tests == {name for names in named for name in names}
