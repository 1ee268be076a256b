"""Work on several cores: the same results in the same order, whoever did it."""

import os
from pathlib import Path

import pytest

from analysis import parallel
from analysis.report import report

PID = "__import__('os').getpid()"


def elsewhere(what: str) -> list[str]:
    """Return items that do something in another process, and wait a moment in this one."""
    return [f"__import__('time').sleep(0.2) if {PID} == {os.getpid()} else {what}"] * 200


def test_results_come_in_order_from_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 3)
    names = [f"{i}" for i in range(7)]
    assert parallel.each(os.path.join, names, "x", fewest=2) == [f"{n}/x" for n in names]
    slow = f"(__import__('time').sleep(0.2), {PID})[1]"
    pids = parallel.each(eval, [slow] * 40, fewest=2)
    assert os.getpid() in pids
    assert len(set(pids)) == 3


@pytest.mark.parametrize(("cores", "items"), [(1, 20), (8, 5)])
def test_one_core_or_few_items_start_no_process(
    monkeypatch: pytest.MonkeyPatch, cores: int, items: int
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: cores)
    assert set(parallel.each(eval, [PID] * items)) == {os.getpid()}


def test_what_is_printed_is_no_part_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    assert parallel.each(eval, ["print('here') or 1"] * 2, fewest=1) == [1, 1]


def test_a_failure_beside_is_a_failure_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        parallel.each(eval, elsewhere("1 / 0"))


def test_figures_drawn_beside_are_the_same_files(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("accuracy", "loss", "labels", "client_cdf")
    (tmp_path / "names.toml").write_text(f"figures = {list(wanted)}\ntables = []\n")
    monkeypatch.setattr(parallel, "FEWEST", 2)
    files = {}
    for cores in (1, 2):
        monkeypatch.setattr(parallel, "cores", lambda n=cores: n)
        out = tmp_path / str(cores)
        made = report(single, out, formats=["svg"], names=tmp_path / "names.toml")
        files[cores] = {p.relative_to(out): p.read_bytes() for p in made}
    assert sum(path.suffix == ".svg" for path in files[1]) == len(wanted)
    assert files[1] == files[2]


def test_progress_is_told_and_a_full_disk_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    heard: list[int] = []
    parallel.each(str, ["a"] * 5, fewest=1, told=heard.append, meanwhile=lambda: heard.append(0))
    assert heard[0] == 0
    assert heard == sorted(heard)
    assert heard[-1] == 5
    with pytest.raises(FileNotFoundError, match="No such file"):  # of the other process
        parallel.each(eval, elsewhere("open('/there/is/no/such/file')"))
