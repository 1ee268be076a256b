"""What all benchmarks share: running a peer in a process of its own, the machine, the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Empty, Queue
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

PATIENCE = 20.0
"""Seconds that a peer gets to end after it was asked to."""

LIBRARIES = ("tensorflow", "keras", "ray", "flwr", "numpy", "jax", "torch")
"""Distributions whose versions are recorded, where they are installed."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Launch:
    """How to start a peer: its processes, the first of which reports.

    Args:
        commands: command lines, from the repository's root.
        environments: what each of them finds in its environment besides ours.
        limit: seconds after which it is stopped.
    """

    commands: Sequence[Sequence[str]]
    environments: Sequence[Mapping[str, str]] = ()
    limit: float = 1800.0


@dataclass
class Outcome:
    """What a peer reported.

    Args:
        records: its records, each with ``at``: seconds since it was started.
        seconds: how long it ran.
        limited: whether it was stopped at its limit.
        error: why it failed; None if it did not.
    """

    records: list[Record] = field(default_factory=list)
    seconds: float = 0.0
    limited: bool = False
    error: str | None = None

    def of(self, event: str) -> list[Record]:
        """Return the records of one kind of event."""
        return [record for record in self.records if record["event"] == event]


def python(module: str, *arguments: object, executable: str = sys.executable) -> list[str]:
    """Return the command that runs a module with arguments."""
    return [executable, "-m", module, *map(str, arguments)]


def run(launch: Launch, seen: Callable[[Record], bool] = lambda record: False) -> Outcome:
    """Run a peer to its end, or to its limit.

    Args:
        launch: how to start it.
        seen: called with every record; the peer is stopped when it returns True.
    """
    outcome, started, wall = Outcome(), time.perf_counter(), time.time()
    environments = [*launch.environments] or [{}] * len(launch.commands)
    with tempfile.TemporaryFile("w+") as errors:
        processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdout=subprocess.PIPE if i == 0 else subprocess.DEVNULL,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            for i, (command, environment) in enumerate(
                zip(launch.commands, environments, strict=True)
            )
        ]
        lines: Queue[str | None] = Queue()
        reader = threading.Thread(target=_read, args=(processes[0], lines), daemon=True)
        reader.start()
        ended = False
        try:
            while True:
                left = launch.limit - (time.perf_counter() - started)
                try:
                    line = lines.get(timeout=max(0.0, left))
                except Empty:
                    outcome.limited = True
                    break
                if line is None:
                    ended = True
                    break
                if line.startswith('{"event"'):
                    record = json.loads(line)
                    record["at"] = record.pop("time") - wall
                    outcome.records.append(record)
                    if seen(record):
                        break
            outcome.seconds = time.perf_counter() - started
            if ended:
                status = max(abs(process.wait(PATIENCE)) for process in processes)
                errors.seek(0)
                if status != 0:
                    outcome.error = _last_line(errors.read()) or f"exit status {status}"
        except subprocess.TimeoutExpired:
            pass  # it has reported all it had to: what hangs is ended below
        finally:
            for process in processes:
                stop(process)
    return outcome


def _read(process: subprocess.Popen[str], lines: Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def stop(process: subprocess.Popen[str]) -> None:
    """End a process and everything below it, Ray's processes too."""
    family: list[Any] = []
    if process.poll() is None:
        family = _family(process.pid)
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    _kill(family)
    # Every peer leads a process group of its own: this ends what has lost its parent.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _family(process: int) -> list[Any]:
    """Return all processes below one.

    Only Ray's leave the group of the peer. Where psutil is missing, so is what starts Ray.
    """
    try:
        import psutil
    except ImportError:
        return []
    return list(psutil.Process(process).children(recursive=True))


def _kill(family: Sequence[Any]) -> None:
    if not family:
        return
    import psutil

    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=PATIENCE)


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on and with."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: found for name in LIBRARIES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine_line(found: Mapping[str, Any]) -> str:
    """Return the machine as one line of text."""
    named = (name for name in LIBRARIES if name in found and name != "numpy")
    versions = ", ".join(f"{name} {found[name]}" for name in named)
    return (
        f"{found['cores']} cores of {found['cpu']}, {found['memory_gb']} GB, {found['system']}; "
        f"Python {found['python']}, {versions}"
    )


@dataclass
class Report:
    """A benchmark's result: text, tables and data, printed and written to ``results/``.

    Args:
        name: of the files, without ending.
        title: of the text.
        small: whether it is a quick look, which goes into ``results/small``.
    """

    name: str
    title: str
    small: bool = False
    lines: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note the machine, the command and how busy the machine was before."""
        self.data["command"] = f"python -m benchmarks.{Path(sys.argv[0]).stem} " + " ".join(
            sys.argv[1:]
        )
        self.data["machine"] = machine()
        self.data["load_before"] = os.getloadavg()[0]
        self.data["date"] = time.strftime("%Y-%m-%d")
        if self.data["load_before"] > 0.5 * self.data["machine"]["cores"]:
            say(f"warning: load average {self.data['load_before']:.1f}: others use this machine")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.lines += [text, ""]

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table; all columns but the first are right-aligned."""
        self.lines += ["| " + " | ".join(header) + " |"]
        self.lines += ["|" + "|".join(["---"] + ["--:"] * (len(header) - 1)) + "|"]
        self.lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
        self.lines += [""]

    def show(self, figure: Callable[[Path], None] | None = None) -> None:
        """Write the report, with the figure if there is one, and print it."""
        if figure is not None:
            figure(self._folder() / f"{self.name}.png")
            self.lines += [f"![{self.title}]({self.name}.png)", ""]
        print(self.write())

    def write(self) -> str:
        """Write the report as Markdown and JSON, and return the Markdown."""
        head = [
            f"# {self.title}",
            "",
            f"`{self.data['command'].strip()}`, {self.data['date']}, on "
            f"{machine_line(self.data['machine'])}; "
            f"load average before: {self.data['load_before']:.2f}.",
            "",
        ]
        folder, text = self._folder(), "\n".join([*head, *self.lines]).rstrip() + "\n"
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        whole = json.dumps(self.data, indent=1) + "\n"
        (folder / f"{self.name}.json").write_text(whole, encoding="utf-8")
        return text

    def _folder(self) -> Path:
        folder = RESULTS / "small" if self.small else RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def say(text: str) -> None:
    """Tell the user what is going on, on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def parser(text: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--repeats", type=int, default=repeats, help="how often, in alternation")
    made.add_argument("--small", action="store_true", help="a small variant, for a quick look")
    return made


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Return the range of some values as text."""
    return f"{min(values):{form}}–{max(values):{form}}" if len(values) > 1 else ""


def verdict(met: bool) -> str:
    """Return yes or no."""
    return "yes" if met else "no"
