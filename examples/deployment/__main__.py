"""Start a SuperLink and two SuperNodes, train two rounds between them, stop them.

python -m examples.deployment [RUN FOLDER]
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simulation.records.reading import read_json, read_rounds

HERE = Path(__file__).parent
NODES = 2
HOST = "127.0.0.1"

START, RUN, STOP = 60.0, 900.0, 20.0
"""Seconds that processes get to start, to train, and to stop."""


def program(name: str) -> str:
    """Return the path of one of Flower's commands."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of Flower's processes: what is installed here, files in ``home``."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
    }


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address on which nobody listens."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@contextmanager
def process(log: Path, *command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the background, its output in a file; stop it at the end."""
    with open(log, "wb") as file:
        started = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(STOP)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def wait_for(port: int, what: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a process listens on a port.

    Raises:
        RuntimeError: if it ends, or takes too long.
    """
    end = time.monotonic() + START
    while what.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"nothing listens on port {port}:\n{log.read_text()[-3000:]}")


def deploy(out: Path) -> None:
    """Run the app in this folder on two SuperNodes, with ``out`` for its run folder.

    Raises:
        RuntimeError: if a process does not start, or the run does not complete.
    """
    link, *nodes = free_ports(1 + NODES)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        home = Path(folder)
        (home / "config.toml").write_text(
            f'[superlink.deployment]\naddress = "{HOST}:{link}"\ninsecure = true\n'
        )
        env = environment(home)
        command = [program("flower-superlink"), "--insecure", "--host", HOST, "--port", str(link)]
        log = home / "superlink.log"
        wait_for(link, running.enter_context(process(log, *command, env=env)), log)
        for number, port in enumerate(nodes):
            command = [program("flower-supernode"), "--insecure", "--port", str(port)]
            command += ["--superlink", f"{HOST}:{link}"]
            command += ["--node-config", f"partition-id={number} num-partitions={NODES}"]
            log = home / f"supernode-{number}.log"
            wait_for(port, running.enter_context(process(log, *command, env=env)), log)
        print(f"SuperLink on port {link}, SuperNodes on {', '.join(map(str, nodes))}", flush=True)
        command = [program("flwr"), "run", str(HERE), "deployment", "--stream"]
        command += ["--run-config", f'out="{out.absolute()}"']
        subprocess.run(command, env=env, check=True, timeout=RUN)
        summary = read_json(out / "summary.json")
        if summary is None or summary["status"] != "complete":
            logs = [f"{log.name}:\n{log.read_text()[-3000:]}" for log in sorted(home.glob("*.log"))]
            raise RuntimeError("\n".join(["the run did not complete", *logs]))


def main() -> None:
    """Deploy, train, and tell what came out."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs") / "deployment"
    if out.exists():
        sys.exit(f"{out} exists already and is never overwritten; name another folder")
    deploy(out)
    for line in read_rounds(out):
        print(f"round {line['round']}: accuracy {line['server_accuracy']:.3f}")
    summary = read_json(out / "summary.json") or {}
    print(f"weights {summary['weights_sha256'][:16]}, run folder {out}")


if __name__ == "__main__":
    main()
