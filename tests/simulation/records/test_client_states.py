"""What clients keep: files that a checkpoint lists, and objects of a cluster."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.records import checkpoint, client_states
from simulation.records.client_states import StateError, StateFile, StateFolder
from simulation.records.log import DiskError
from simulation.runs.run import simulate
from strategies.spec import Spec
from tests.simulation.same_bits import StopAfter

STATE = np.linspace(-1, 1, 7, dtype=np.float32)


@pytest.fixture
def shelf(tmp_path: Path) -> StateFolder:
    return StateFolder(str(tmp_path / "clients"))


@pytest.fixture
def stateful(small: Experiment) -> Experiment:
    return small.replace(rounds=4, cohort=6, strategy={"name": "scaffold"})


def files(folder: Path) -> set[tuple[int, int]]:
    """Return (round, client) of every file below a folder."""
    found = (p for p in folder.rglob("*") if p.is_file())
    return {(int(p.parent.name), int(p.stem)) for p in found}


def test_what_is_put_comes_back(shelf: StateFolder) -> None:
    stored = shelf.put(3, 12, STATE)
    assert stored.load().tobytes() == STATE.tobytes()
    assert stored.digest == hashlib.sha256(stored.path.read_bytes()).digest()
    assert stored == shelf.at(3, 12, stored.digest)
    client_states.sync([stored])
    client_states.check([stored])


def test_a_damaged_or_missing_state_is_told(shelf: StateFolder) -> None:
    stored = shelf.put(3, 12, STATE)
    stored.path.write_bytes(stored.path.read_bytes()[:-1])
    with pytest.raises(ValueError) as caught:
        client_states.check([stored])
    assert str(caught.value) == f"the sha256 of {stored.path} is not the recorded one"
    with pytest.raises(StateError, match="state of client 3 after round 12 cannot be read from"):
        stored.load()
    stored.path.unlink()
    with pytest.raises(StateError, match=r"cannot be read from .* \(.*No such file"):
        stored.load()


def test_a_sweep_leaves_what_is_wanted(shelf: StateFolder) -> None:
    for round, client in ((1, 0), (1, 1), (2, 0)):
        shelf.put(client, round, STATE)
    half = Path(shelf.folder) / "000002" / ".5.safetensors.123"
    half.write_bytes(b"a process that was killed left this")
    client_states.sweep(Path(shelf.folder), {(2, 0)}, 9)
    assert files(Path(shelf.folder)) == {(2, 0)}
    assert os.listdir(shelf.folder) == ["000002"]


def test_a_run_keeps_the_states_of_its_last_two_checkpoints(
    stateful: Experiment, tmp_path: Path
) -> None:
    simulate(stateful, out=tmp_path / "run")
    folder = tmp_path / "run/checkpoint"
    listed = set()
    for path in sorted(folder.glob("*.safetensors")):
        found = checkpoint._read(path)
        assert all(s.round <= found.position.round for s in found.clients.values())
        trained = {s.client for s in found.clients.values() if s.round == found.position.round}
        assert found.position.rows is not None
        assert trained == set(found.position.rows["client"].tolist())
        listed |= {(s.round, s.client) for s in found.clients.values()}
    assert files(folder / "clients") == listed
    # Six of twelve take part: the checkpoints share the files of those that did not.
    assert len(listed) < 2 * len(found.clients)


def test_a_damaged_state_costs_one_round(
    stateful: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = simulate(stateful, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(stateful, out=tmp_path / "cut", listener=StopAfter(2))
    newest = max((tmp_path / "cut/checkpoint").glob("*.safetensors"))
    at = checkpoint._read(newest)
    victim = next(s for s in at.clients.values() if s.round == at.position.round)
    victim.path.write_bytes(victim.path.read_bytes()[:-1] + b"\0")
    moved = (tmp_path / "cut").rename(tmp_path / "moved")  # states are found where the run is
    resumed = simulate(stateful, out=moved, resume=True)
    assert f"{newest.name} is damaged (the sha256 of" in caplog.text
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]


def test_a_full_disk_is_not_taken_for_the_clients_fault(
    stateful: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = StateFolder.put

    def full(shelf: StateFolder, client: int, round: int, state: Any) -> StateFile:
        if round == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return put(shelf, client, round, state)

    lenient = stateful.replace(faults={"on_client_error": "skip"})
    with monkeypatch.context() as patch, pytest.raises(DiskError, match="No space left on device"):
        patch.setattr(StateFolder, "put", full)
        simulate(lenient, out=tmp_path / "run")
    resumed = simulate(lenient, out=tmp_path / "run", resume=True)
    whole = simulate(lenient, out=tmp_path / "whole")
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert resumed.summary["clients_lost"] == 0


def test_states_that_cannot_fit_are_told_before_the_first_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plan = Spec(("w",), ((1000, 1000),), 1), parse({"clients": 10, "cohort": 2, "rounds": 3})
    need = 4 * 2 * 10**6 * 6  # two vectors for each of the six clients that can take part
    usage = type("Usage", (), {"free": need})
    monkeypatch.setattr(client_states.shutil, "disk_usage", lambda _: usage)
    client_states.check_room(tmp_path, spec, 2, (), plan)
    usage.free -= 2**29
    with pytest.raises(ConfigError) as caught:
        client_states.check_room(tmp_path / "run", spec, 2, (), plan)
    assert str(caught.value) == (
        f"out must be on a disk with {need / 2**30:.1f} GiB free for what clients keep, "
        f"got {tmp_path / 'run'} ({(need - 2**29) / 2**30:.1f} GiB free)"
    )


def test_a_cluster_holds_states_and_the_driver_writes_them(
    shelf: StateFolder, ray_cluster: Any
) -> None:
    from simulation.engines.calls import Merge, Train
    from simulation.engines.ray.object_states import ObjectState, ObjectStoreStates, from_files
    from tests.simulation.tools import training

    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    holdings = ObjectStoreStates(shelf)
    first = holdings.keep(1, [5, 6, 7, 8], ray_cluster.put(values), values)
    for row, client in enumerate((5, 6, 7, 8)):
        handle = holdings.handle(first[client])
        assert handle.load().tobytes() == first[client].load().tobytes() == values[row].tobytes()
    again = holdings.keep(2, [5, 6], ray_cluster.put(-values[:2]), -values[:2])
    holdings.keep(3, [9], ray_cluster.put(values[:1]), values[:1])
    # Half of the first array's clients have moved on: those left come from their files.
    fresh = holdings.handle(first[7])
    assert fresh.row == 0 and fresh.load().tobytes() == values[2].tobytes()
    assert holdings.handle(again[6]).row == 1
    lost = ObjectState(None, 0, first[8])
    call = from_files(training([1, 8], None, states=[None, lost]))
    assert isinstance(call, Train) and call.states[0] is None
    assert call.states[1] is not None and call.states[1].load().tobytes() == values[3].tobytes()
    assert from_files(Merge(inputs=(1, "x"), shape=(0, 1))) == Merge(inputs=(1, "x"), shape=(0, 1))


def test_a_lost_object_is_no_clients_fault(shelf: StateFolder, ray_cluster: Any) -> None:
    from simulation.engines.calls import Status
    from simulation.engines.ray.object_states import ObjectState

    stored = shelf.put(0, 1, STATE)
    held = ObjectState(ray_cluster.put(STATE[None]), 0, stored)
    ray_cluster._private.internal_api.free([held.ref])
    with pytest.raises(StateError, match=r"^lost with its node: "):
        held.load()
    assert Status(0, 1, "StateError: lost with its node").kind == "StateError"
    full = Status(0, 1, "StateError: [Errno 28] No space left on device")
    assert isinstance(full.exception, OSError) and full.exception.errno == errno.ENOSPC
    assert replace(full, error=None).exception is None
