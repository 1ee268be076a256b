"""How runs end that do not go to their end: locks, signals, full disks, cut checkpoints."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from simulation.cli import commands
from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.records import checkpoint
from simulation.records.lock import locked
from simulation.records.log import DiskError
from simulation.records.reading import read_rounds
from simulation.records.run_folder import RunFolder
from simulation.runs.run import Listener, Result, simulate
from simulation.runs.signals import Terminated


class At(Listener):
    """Do something when the line of a round has been written."""

    def __init__(self, round: int, act: Any) -> None:
        self.round, self.act = round, act

    def line(self, record: Mapping[str, Any]) -> None:
        if record["round"] == self.round:
            self.act()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The undisturbed run."""
    from simulation.config.experiment import parse
    from tests.simulation.conftest import SMALL

    return simulate(parse({**SMALL, "rounds": 4}), out=tmp_path_factory.mktemp("whole") / "run")


def same(resumed: Result, whole: Result) -> None:
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert [r["round"] for r in resumed.rounds] == [r["round"] for r in whole.rounds]
    for ours, theirs in zip(resumed.rounds, whole.rounds, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    ours, theirs = (pq.read_table(r.path / "clients.parquet") for r in (resumed, whole))
    assert ours.equals(theirs)


def test_a_folder_has_one_writer(small: Experiment, tmp_path: Path) -> None:
    out, refused = tmp_path / "run", []

    def second() -> None:
        for resume in (True, False):
            with pytest.raises(RunError) as caught:
                simulate(small, out=out, resume=resume)
            refused.append(str(caught.value))

    simulate(small, out=out, listener=At(1, second))
    assert refused == [
        f"out: {out} is being written by another run (process {os.getpid()})",
        f"out: {out} exists already and is never overwritten; "
        "go on in it with --resume, or choose another",
    ]
    assert not (out / "run.lock").exists()


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from simulation.records.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"another run .process {holder.pid}."), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert (tmp_path / "run.lock").exists()


def test_a_file_system_without_locks_keeps_no_run_from_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with locked(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == ["run.lock"]
    assert not list(tmp_path.iterdir())
    assert f"{tmp_path / 'run.lock'}: this file system has no locks" in caplog.text


def test_sigterm_ends_a_run_as_ctrl_c_does(
    small: Experiment, whole: Result, tmp_path: Path
) -> None:
    wanted, out = small.replace(rounds=4), tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated):
        simulate(wanted, out=out, listener=At(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert signal.getsignal(signal.SIGTERM) == before
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    same(simulate(wanted, out=out, resume=True), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak), (signal.SIGINT, 130)],
)
def test_the_command_says_how_to_go_on(
    number: signal.Signals, status: int, whole: Result, tmp_path: Path, quiet_again: None
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "simulation.cli", "run", "--out", str(out)]
    options = "--dataset fashion-mnist-mini --model mlp --clients 12 --alpha 0.5 --rounds 4"
    run = subprocess.Popen(
        [*command, *options.split(), "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        # A shell makes what it starts in the background deaf to Ctrl-C, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 120
    while len(read_rounds(out)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    run.send_signal(number)
    _, told = run.communicate(timeout=120)
    assert run.returncode == status
    assert told == f"sunflower: interrupted; go on with: sunflower run --resume --out {out}\n"
    if number == signal.SIGTERM:
        again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=240)
        assert again.returncode == 0, again.stderr
    else:  # In this process, which has loaded all that computes.
        here = ["run", "--resume", "--out", str(out), "--engine", "inline"]
        found = CliRunner().invoke(commands.main, here)
        assert found.exit_code == 0, found.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert [r["round"] for r in read_rounds(out)] == [0, 1, 2, 3, 4]


def test_checkpoints_every_few_rounds(small: Experiment, whole: Result, tmp_path: Path) -> None:
    wanted = small.replace(rounds=4, **{"faults.checkpoint_every": 3})
    written = []
    with pytest.MonkeyPatch.context() as patch:
        store = checkpoint.store

        def noted(folder: Path, round: int, *more: Any) -> None:
            written.append(round)
            store(folder, round, *more)

        patch.setattr(checkpoint, "store", noted)
        with pytest.raises(Terminated):
            act = At(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
            simulate(wanted, out=tmp_path / "run", listener=act)
        assert written == [2], "the end of a run that is cut short"
        same(simulate(wanted, out=tmp_path / "run", resume=True), whole)
    assert written == [2, 3, 4]


EVERY = {"faults.checkpoint_every": 1}


class Full:
    """A disk that is full from the n-th replaced file on."""

    def __init__(self, after: int) -> None:
        self.left, self._replace = after, os.replace

    def __call__(self, source: Any, target: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        self._replace(source, target)


@pytest.mark.parametrize("after", range(1, 12, 2))
def test_a_full_disk(
    after: int, small: Experiment, whole: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any write: the run says so, and what was written before is whole."""
    wanted, out = small.replace(rounds=4, **EVERY), tmp_path / "run"
    monkeypatch.setattr(os, "replace", Full(after))
    with pytest.raises(DiskError) as caught:
        simulate(wanted, out=out)
    assert str(caught.value) == (
        f"{out} cannot be written (No space left on device); when that is mended, "
        "--resume goes on from the last checkpoint"
    )
    assert not list(out.rglob("*.tmp"))
    monkeypatch.undo()
    same(simulate(wanted, out=out, resume=True), whole)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system: room for two checkpoints of the model, not for three."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2200k", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"tmpfs cannot be mounted: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small: Experiment, whole: Result, tiny_disk: Path) -> None:
    wanted, out = small.replace(rounds=4, **EVERY), tiny_disk / "run"
    with pytest.raises(DiskError, match="No space left on device"):
        simulate(wanted, out=out)
    kept = sorted(p.name for p in (out / "checkpoint").glob("*.safetensors"))
    assert kept and not list(out.rglob("*.tmp"))
    assert checkpoint.latest(out / "checkpoint") is not None
    subprocess.run(["mount", "-o", "remount,size=50m", str(tiny_disk)], check=True)
    same(simulate(wanted, out=out, resume=True), whole)


def test_a_truncated_checkpoint(
    small: Experiment, whole: Result, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, out = small.replace(rounds=4), tmp_path / "run"
    with pytest.raises(Terminated):
        simulate(wanted, out=out, listener=At(3, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    newest = max((out / "checkpoint").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:1000])
    same(simulate(wanted, out=out, resume=True), whole)
    assert f"checkpoint {newest} is damaged (its sha256 is not the recorded one)" in caplog.text


@pytest.mark.parametrize("call", ["replace", "rmtree", "unlink"])
@pytest.mark.parametrize("nth", range(1, 4))
def test_a_crash_while_the_parts_are_joined(
    call: str, nth: int, whole: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of clients are whole after a crash at any step of joining them, or of undoing it."""
    folder = RunFolder(tmp_path)
    table = pq.read_table(whole.path / "clients.parquet")
    for round in range(1, 5):
        part = table.filter(table["round"].to_numpy() == round)
        rows = {name: part[name].to_numpy() for name in table.column_names}
        folder.add_part("clients.parquet", rows)
    folder.write()

    class Crash(BaseException):
        pass

    counts = {"n": 0}

    def crashing(original: Any) -> Any:
        def act(*given: Any, **more: Any) -> Any:
            counts["n"] += 1
            if counts["n"] == nth:
                raise Crash
            return original(*given, **more)

        return act

    with monkeypatch.context() as patch:
        if call == "replace":
            patch.setattr(os, "replace", crashing(os.replace))
        elif call == "rmtree":
            patch.setattr(shutil, "rmtree", crashing(shutil.rmtree))
        else:
            patch.setattr(Path, "unlink", crashing(Path.unlink))
        for _ in range(2):
            try:
                folder.finish({"status": "complete"})
                RunFolder.reopen(tmp_path, 4)
            except Crash:
                break
    again = RunFolder.reopen(tmp_path, 4)
    assert list((tmp_path / "clients.parquet").glob("round-*.parquet"))
    again.finish({"status": "complete"})
    assert pq.read_table(tmp_path / "clients.parquet").equals(table)
