"""The GPU benchmark: its work, its tables, its refusals; nothing is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu, gpu_table, gpu_work
from benchmarks.common import Launch, Outcome, Report
from benchmarks.gpu_table import HEADER, Results
from benchmarks.gpu_work import ALL, FULL
from benchmarks.peers.gpu_bound import cuts_of, tables_of


def round_of(work: str, number: int, seconds: float, images: int = 60_000) -> dict[str, Any]:
    clients = ALL[work].clients
    return {
        "event": "round", "work": work, "round": number, "seconds": seconds, "images": images,
        "clients": clients,
    }  # fmt: skip


def measured(**seconds: dict[str, list[float]]) -> Results:
    """Results in which each contestant took these seconds, the first of them compiling."""
    results = Results.empty()
    for peer, works in seconds.items():
        records: list[dict[str, Any]] = [
            {"event": "ready", "device": "card", "versions": {"jax": "1"}}
        ]
        for work, times in works.items():
            records += [round_of(work, 1 + k, s) for k, s in enumerate(times)]
        results.take(peer, records)
    return results


def test_the_sizes_are_those_that_are_told() -> None:
    for name in ("100x600", "1000x60", "10000x6"):
        clients, size = map(int, name.split("x"))
        assert FULL[name].sizes.tolist() == [size] * clients
    for name in ("skewed-100", "skewed-1000"):
        sizes = FULL[name].sizes
        assert len(sizes) == FULL[name].clients and sizes.min() >= 1
        assert 0.98 * 60_000 <= sizes.sum() <= 60_000 + len(sizes)
        # Log-normal, sigma 1: the deviation of the logarithms.
        assert np.log(sizes).std() == pytest.approx(1.0, abs=0.15)


def test_what_is_written_is_what_contestants_and_sunflower_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulation.config.experiment import parse
    from simulation.datasets import validate
    from simulation.population.deal import prepare

    work = ALL["skewed-20"]
    gpu_work.write(work, tmp_path)
    data = gpu_work.read(tmp_path)
    assert np.diff(data.offsets).tolist() == work.sizes.tolist()
    monkeypatch.setenv(gpu_work.FOLDER, str(tmp_path))
    _, parts = prepare(parse(gpu_work.settings(work, 1, 0.0)))
    assert set(gpu_work.dataset()) - {"x_train", "y_train", "x_test", "y_test"} <= {
        *validate.EXTRAS
    }
    for client in range(len(data)):
        mine = data.client(client)
        rows = np.sort(parts.train_rows(client))
        assert rows.tolist() == list(range(mine.start, mine.stop))


def test_a_part_of_a_cohort_is_its_first_clients() -> None:
    data = gpu_work.Data(np.zeros(0), np.zeros(0), np.array([0, 10, 15, 40]))
    assert [data.first(n) for n in (1, 10, 14, 15, 39, 40, 100)] == [1, 1, 1, 2, 2, 3, 3]


def test_every_image_is_trained_on_once_in_the_lanes_of_the_bound() -> None:
    sizes = np.array([7, 1, 64, 3, 20, 5, 5])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    seen: list[int] = []
    begun = ended = 0
    for rows, count, begin, weight in tables_of(offsets, np.arange(len(sizes)), 4, 4):
        assert rows.shape == (*count.shape, 4)
        for step, lane in np.argwhere(count > 0):
            seen += rows[step, lane, : count[step, lane]].tolist()
        begun += int(begin.sum())
        ended += int((weight > 0).sum())
    assert sorted(seen) == list(range(int(sizes.sum())))
    assert begun == ended == len(sizes)


def test_the_bound_narrows_where_lanes_run_dry() -> None:
    loads = np.array([20, 9, 6, 6, 2, 2, 1, 1])
    # A quarter of eight lanes goes on when the third longest has ended; of two it is none.
    assert cuts_of(loads) == [(8, 0, 6), (2, 6, 20)]
    assert cuts_of(np.full(16, 5)) == [(16, 0, 5)]


def test_medians_are_over_the_rounds_after_the_first() -> None:
    results = measured(
        sunflower={"100x600": [9.0, 0.2, 0.1, 0.3]},
        pfl={"100x600": [6.0, 4.0]},
        torch={"1000x60": [3.0]},
    )
    results.failures["100x600", "torch"] = "OutOfMemoryError: too much"
    rows = gpu_table.rows(results, FULL["100x600"], ["bound", "sunflower", "pfl", "torch"])
    assert all(len(row) == len(HEADER) for row in rows)
    assert rows[0][1] == "no round after the first in its time"
    assert rows[1][1:] == ["300,000", "200,000", "600,000", "0.200", "9.0", "", "3"]
    assert rows[2][1:] == ["15,000", "15,000", "15,000", "4.000", "6.0", "20.00 x", "1"]
    assert rows[3][1] == "OutOfMemoryError: too much"


def test_a_part_of_the_cohort_is_said() -> None:
    results = Results.empty()
    record = round_of("1000x60", 2, 1.0, 19_980) | {"clients": 333}
    results.take("torch", [record])
    (row,) = gpu_table.rows(results, FULL["1000x60"], ["torch"])
    assert row[0] == "plain PyTorch loop (333 clients a round)" and row[1] == "19,980"


def test_the_verdicts() -> None:
    results = measured(
        sunflower={
            "100x600": [9, 0.05], "1000x60": [9, 0.05], "skewed-1000": [9, 0.1],
            "skewed-100": [9, 0.09],
        },
        pfl={"100x600": [9, 4.0]},
        bound={"100x600": [9, 0.03]},
    )  # fmt: skip
    results.take("bound", [{"event": "alone", "work": "skewed-100", "seconds": 0.05}])
    found = {(row[0], row[1]): row[2:] for row in gpu_table.verdicts(results)}
    assert found == {
        ("100x600", "pfl-research, PyTorch"): ["70 x", "80.00 x", "yes"],
        ("100x600", "the bound: bare lanes"): ["0.8 x", "0.60 x", "no"],
        ("skewed-1000", "Sunflower's own images/s of 1000x60"): ["0.6 x", "0.50 x", "no"],
        ("skewed-100", "the longest client alone, in time"): ["at most 2 x", "1.80 x", "yes"],
    }
    (said,) = gpu_table.notes(results, FULL["skewed-100"])
    assert "0.050 s in the bound's loop: a round of Sunflower is 1.80 times as long" in said


def test_contestants_take_turns() -> None:
    assert "".join(gpu.schedule("ABC", 3)) == "ABCCBAABC"


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr("benchmarks.common.RESULTS", tmp_path)
    return Report("gpu", "On a GPU", small=True)


def test_who_lacks_a_library_is_left_out_with_a_line(
    report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = measured(sunflower={"20x64": [5.0, 1.0]})
    told = Outcome(records=[{"event": "missing", "why": "No module named 'pfl'"}])
    monkeypatch.setattr("benchmarks.common.run", lambda launch: told)
    gpu.run(results, "pfl", Launch([["x"]]))
    gpu.present(report, results, ["20x64"], ["sunflower", "pfl"], small=True)
    line = "pfl-research, PyTorch is left out: No module named 'pfl' (pip install 'pfl[pytorch]"
    assert line in capsys.readouterr().err
    text = report.write()
    assert line in text and "The small run" in text and "Targets" not in text
    assert "| pfl-research, PyTorch |" not in text


def test_one_that_does_not_start_is_told_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results.empty()
    told = Outcome(error="RuntimeError: no driver")
    monkeypatch.setattr("benchmarks.common.run", lambda launch: told)
    gpu.run(results, "bound", Launch([["x"]]))
    assert results.left_out == {"bound": "it did not start: RuntimeError: no driver"}


def test_without_a_gpu_it_refuses_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == gpu.refusal() + "\n"
    assert "--small" in gpu.refusal() and "\n" not in gpu.refusal()


def test_it_imports_nothing_but_numpy() -> None:
    """So that it starts where little is installed."""
    code = (
        "import sys, benchmarks.gpu\n"
        "for m in ('bound', 'sunflower', 'pfl', 'torch', 'keras_fit'):\n"
        "    __import__(f'benchmarks.peers.gpu_{m}')\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"psutil", "pandas", "keras", "jax", "torch", "pfl", "tensorflow", "ray", "flwr"}
    assert "numpy" in loaded and not loaded & (heavy | {"simulation", "strategies"})
