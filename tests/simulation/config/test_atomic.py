"""Files that are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simulation.config.atomic import replacing


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("writers", [False, True])
def test_a_file_is_the_old_one_until_it_is_the_new_one(
    writers: bool, durable: bool, tmp_path: Path
) -> None:
    path = tmp_path / "kept.bin"
    path.write_bytes(b"old")
    with replacing(path, writers=writers, durable=durable) as hidden:
        assert (hidden.parent, hidden.name[0], hidden.suffix) == (tmp_path, ".", ".tmp")
        hidden.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.bin"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "kept.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), replacing(path) as hidden:
        hidden.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.bin"]


def test_writers_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "kept.bin"
    with replacing(path, writers=True) as one, replacing(path, writers=True) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"  # the last to end
    assert [p.name for p in tmp_path.iterdir()] == ["kept.bin"]


def test_what_is_durable_is_flushed_before_and_after_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append("flush"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("rename"), replace(*a)))
    with replacing(tmp_path / "kept.bin", durable=True) as hidden:
        hidden.write_bytes(b"new")
    assert done == ["flush", "rename", "flush"]
    with replacing(tmp_path / "kept.bin") as hidden:
        hidden.write_bytes(b"new")
    assert done[3:] == ["rename"]
