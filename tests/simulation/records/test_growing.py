"""Records that are written later, many at a time; checkpoints that are due by time."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.config.errors import RunError
from simulation.config.sections import Faults
from simulation.records import checkpoint_writer
from simulation.records.checkpoint import Checkpoint, Position, latest
from simulation.records.checkpoint_writer import CheckpointWriter, Due
from simulation.records.delayed import DelayedWriter
from simulation.records.parts import Parts
from simulation.records.reading import read_rounds
from simulation.records.run_folder import RunFolder


def rows(round: int, *names: str) -> dict[str, Any]:
    own = {name: np.arange(2) + float(round) for name in names}
    return {"round": np.full(2, round, np.int32), "client": np.arange(2), **own}


@settings(max_examples=40, deadline=None)
@given(
    ends=st.lists(st.booleans(), min_size=1, max_size=9),
    last=st.integers(0, 10),
    joined=st.booleans(),
)
def test_rows_up_to_a_round_stay(
    tmp_path_factory: pytest.TempPathFactory, ends: list[bool], last: int, joined: bool
) -> None:
    """However rounds fell into parts: the rows of later rounds are dropped, no others."""
    path = tmp_path_factory.mktemp("run") / "clients.parquet"
    parts = Parts(path)
    for round, end in enumerate(ends, 1):
        parts.add(rows(round, "loss"))
        if end:
            parts.write()
    parts.write()
    if joined:
        parts.join()
    again = Parts(path)
    again.take_apart()
    again.drop_after(last)
    for round in range(last + 1, len(ends) + 1):
        again.add(rows(round, "loss"))
    again.write()
    again.join()
    table = pq.read_table(path)
    assert table["round"].to_pylist() == [r for r in range(1, len(ends) + 1) for _ in range(2)]
    assert table["loss"].to_pylist() == [r + i for r in range(1, len(ends) + 1) for i in (0.0, 1.0)]


def test_a_column_that_some_rounds_lack(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "clients.parquet")
    for round, names in enumerate([(), ("auc",), ("auc",), ()], 1):
        parts.add(rows(round, *names))
        if round == 2:
            parts.write()
    parts.write()
    parts.join()
    table = pq.read_table(tmp_path / "clients.parquet")
    assert table["round"].to_pylist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert table["auc"].to_pylist() == [None, None, 2.0, 3.0, 3.0, 4.0, None, None]


def test_more_than_a_million_rounds_keep_their_order(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "clients.parquet")
    for round in (999_999, 1_000_000):
        parts.add(rows(round))
        parts.write()
    parts.join()
    assert pq.read_table(tmp_path / "clients.parquet")["round"].to_pylist() == [
        999_999, 999_999, 1_000_000, 1_000_000,
    ]  # fmt: skip


def test_lines_come_by_themselves_in_order(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    written = threading.Event()
    original = folder._write

    def noted() -> None:
        original()
        written.set()

    folder._delayed = DelayedWriter(noted, 0.01)
    for round in range(500):
        folder.add_round({"round": round})
    assert written.wait(10)
    folder.finish({"status": "complete"})
    assert [line["round"] for line in read_rounds(folder.path)] == list(range(500))


def test_a_full_disk_is_told_to_the_rounds_and_nothing_is_doubled() -> None:
    waiting, written, full = [1, 2, 3], list[int](), [True]

    def write() -> None:
        while waiting:
            if full[0] and len(written) == 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(waiting.pop(0))

    delayed = DelayedWriter(write, 0.0)
    delayed.there_is_more()
    assert delayed._thread is not None
    delayed._thread.join(10)
    with pytest.raises(OSError, match="No space left"):
        delayed.there_is_more()
    full[0] = False
    delayed.close()
    assert written == [1, 2, 3]


def taken(round: int) -> Checkpoint:
    model = np.full(3, round, np.float32)
    return Checkpoint(Position(round, model), {"m": np.full(3, round)}, {}, 0.0)


@pytest.mark.parametrize(
    ("faults", "most", "stored"),
    [
        ({"checkpoint_every": 1}, None, [1, 2, 3, 4, 5, 6, 7]),
        ({"checkpoint_every": 3}, None, [3, 6, 7]),
        ({}, None, [4, 7]),
        ({"checkpoint_seconds": 5}, None, [2, 4, 6, 7]),
        ({"checkpoint_seconds": 100}, 3, [3, 6, 7]),
        ({"checkpoint_seconds": 9, "checkpoint_every": 3}, None, [3, 6, 7]),
    ],
)
def test_when_checkpoints_are_due(
    faults: dict[str, Any], most: int | None, stored: list[int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Rounds of 3 seconds: by rounds, by time, by both; 10 seconds where nothing is said."""
    clock, found = [0.0], list[int]()
    monkeypatch.setattr(checkpoint_writer.time, "monotonic", lambda: clock[0])
    store = checkpoint_writer.checkpoint.store
    monkeypatch.setattr(
        checkpoint_writer.checkpoint, "store",
        lambda folder, round, *more: (found.append(round), store(folder, round, *more)),
    )  # fmt: skip
    writer = CheckpointWriter(tmp_path, lambda: None, Due.of(Faults(**faults), most))
    for round in range(1, 8):
        clock[0] += 3.0
        writer.offer(taken(round))
    writer.close()
    assert found == stored
    newest = latest(tmp_path)
    assert newest is not None and newest.position.round == 7
    assert newest.position.model.tolist() == [7.0] * 3


def test_a_state_that_is_written_over_later_is_kept_as_it_was(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, lambda: None, Due(None, 100.0))
    one = taken(1)
    writer.offer(one)
    one.state["m"][:] = -1
    writer.close()
    newest = latest(tmp_path)
    assert newest is not None and newest.state["m"].tolist() == [1, 1, 1]


def test_a_state_that_cannot_be_written_over_is_not_copied(tmp_path: Path) -> None:
    """100 models in flight, offered after every event, would cost more than the event."""
    writer = CheckpointWriter(tmp_path, lambda: None, Due(None, 100.0))
    one = taken(1)
    one.state["m"].flags.writeable = False
    writer.offer(one)
    assert writer._newest is not None and writer._newest.state["m"] is one.state["m"]
    writer.close()
    newest = latest(tmp_path)
    assert newest is not None and newest.state["m"].tolist() == [1, 1, 1]


def test_a_run_killed_before_it_said_what_it_is_leaves_the_folder_free(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "run.lock").touch()
    (path / ".config.json.tmp").write_text('{"format": ')
    RunFolder.create(path, {"rounds": 3})
    assert {p.name for p in path.iterdir()} == {"run.lock", "config.json"}
    with pytest.raises(RunError, match="exists already and is never overwritten"):
        RunFolder.create(path, {"rounds": 3})
