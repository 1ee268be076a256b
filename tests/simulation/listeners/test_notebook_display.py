"""The display of a run in a notebook, and the silence around it."""

from __future__ import annotations

import logging
import re
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from simulation import simulate
from simulation.config.experiment import Experiment, parse
from simulation.engines.ray.cluster import without_remarks
from simulation.listeners import notebook
from simulation.listeners.notebook import Notebook, in_notebook


class Handle:
    """IPython's handle of a display that can be changed."""

    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def update(self, what: Any) -> None:
        self.shown.append(what._repr_html_())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend to be a notebook's kernel; return what its cell shows, state after state."""
    states: list[str] = []

    def display(what: Any, display_id: bool = False) -> Handle:
        assert display_id
        states.append(what._repr_html_())
        return Handle(states)

    ipython = types.ModuleType("IPython")
    ipython.display = types.SimpleNamespace(display=display)  # type: ignore[attr-defined]
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(notebook, "PAUSE", 0.0)
    return states


def value_of(html: str) -> float:
    return float(re.search(r'value="([\d.]+)"', html)[1])


def test_a_run_is_followed_in_its_cell(shown: list[str], small: Experiment, tmp_path: Path) -> None:
    assert in_notebook()
    result = simulate(small.replace(name="<b>mine"), out=tmp_path / "run")
    bars = [value_of(html) for html in shown if "<progress" in html]
    assert bars == sorted(bars) and bars[-1] == 2.0
    assert any(0 < b < 1 for b in bars)  # it moves within a round, too
    last = shown[-1]
    assert "&lt;b&gt;mine" in last and "<b>mine" not in last
    assert f"accuracy {result.rounds[-1]['server_accuracy']:.1%}" in last
    ends = re.search(r'points="([^"]*)"', last)[1].split()
    accuracies = [1 - float(point.split(",")[1]) / notebook.HEIGHT for point in ends]
    expected = [r["server_accuracy"] for r in result.rounds]
    assert accuracies == [pytest.approx(a, abs=0.01) for a in expected]


def test_a_run_that_fails_says_so(shown: list[str]) -> None:
    view = Notebook()
    view.begin(parse({"rounds": 3, "clients": 4}), 1, 0)
    view.end({"status": "failed", "final": {}, "wall_seconds": 1.0, "images_per_second": None})
    assert "failed" in shown[-1] and repr(view).startswith("FedAvg: failed")


def test_elsewhere_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()


def test_remarks_on_widgets_are_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("somebody")
    log.setLevel(logging.INFO)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with without_remarks():
            warnings.warn("IProgress not found. Please update jupyter", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
            log.info("Missing packages: ['ipywidgets']")
            log.warning("trouble")
    assert [str(w.message) for w in told] == ["something else"]
    assert [r.message for r in caplog.records] == ["trouble"]
    log.info("heard again")
    assert caplog.records[-1].message == "heard again"
