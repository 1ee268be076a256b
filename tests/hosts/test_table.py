"""Every fault of the table in docs/clusters.md has its test."""

from __future__ import annotations

import re

from tests.hosts import test_faults
from tests.hosts.network import ROOT


def test_each_row_names_a_test() -> None:
    page = (ROOT / "docs/clusters.md").read_text()
    table = page.partition("## When a network or a host fails")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert rows and all(named), rows
    missing = {name for names in named for name in names} - set(vars(test_faults))
    assert not missing
    tests = {name for name in vars(test_faults) if name.startswith("test_")}
    assert tests == {name for names in named for name in names}
