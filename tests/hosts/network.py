"""Hosts on one machine: network namespaces on a switch, each with a link of its own.

A host's link is what lies between it and the switch: it can be cut, lossy or slow, and a host can
lose its power. No connection is closed by that: the others hear nothing, as on real networks.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]

PORT = 6379
"""Where Ray's head listens; every network has addresses of its own, so this is free."""

_NUMBERS = itertools.count()


def why_not() -> str | None:
    """Return what this machine lacks for networks of its own; None: nothing."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2"
    if not Path("/dev/net/tun").exists():
        return "links that are bad need /dev/net/tun"
    name = f"sunflower-try-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespace can be made here: {tried.stderr.strip()}"
    _ip("netns", "delete", name)
    return None


@dataclass
class Host:
    """A machine of the network.

    Args:
        name: what the tests call it.
        namespace: its network namespace.
        address: its IPv4 address.
        port: its link's other end, in the switch.
        switch: the switch's namespace.
        folder: its own files: Ray's temporary ones, logs.
    """

    name: str
    namespace: str
    address: str
    port: str
    switch: str
    folder: Path
    _first: subprocess.Popen[bytes] | None = None
    _bad: subprocess.Popen[bytes] | None = None

    def start(self, *command: str, **given: Any) -> subprocess.Popen[Any]:
        """Start a program on this host; it ends with the network at the latest."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
            **given.pop("env", {}),
        }
        environment.pop("RAY_ADDRESS", None)
        enter = ["nsenter", "--target", str(self._boot()), "--net", "--pid", "--mount"]
        return subprocess.Popen([*enter, "--", *command], cwd=ROOT, env=environment, **given)

    def _boot(self) -> int:
        """Return the process that all others of this host go with.

        Ray looks for nodes of its machine in the list of processes: every host has its own.
        """
        if self._first is None:
            (self.folder / "booted").unlink(missing_ok=True)
            alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
            program = f"touch {self.folder}/booted; while true; do sleep 3600 & wait; done"
            with_us = ["setpriv", "--pdeathsig", "KILL"]
            self._first = subprocess.Popen(
                [*with_us, "ip", "netns", "exec", self.namespace, *alone, "bash", "-c", program]
            )
            while not (self.folder / "booted").exists():
                time.sleep(0.01)
        return psutil.Process(self._first.pid).children()[0].pid

    def start_ray(
        self,
        head: Host | None = None,
        cpus: int = 1,
        modules: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Start a Ray node here, the head of a cluster where ``head`` is None.

        Args:
            head: which cluster to join.
            cpus: how many it offers.
            modules: a folder whose modules hide those that are installed.
            settings: environment variables that Ray reads.
        """
        found = dict(settings or {})
        if modules is not None:
            found["PYTHONPATH"] = f"{modules}{os.pathsep}{ROOT}"
        where = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        if head is not None:
            where = [f"--address={head.address}:{PORT}"]
        ray = Path(sysconfig.get_path("scripts")) / "ray"
        with (self.folder / "ray.log").open("w") as log:
            self.start(
                str(ray), "start", *where, f"--num-cpus={cpus}", "--disable-usage-stats",
                f"--node-ip-address={self.address}", f"--temp-dir={self.folder}/ray",
                f"--object-store-memory={200 * 2**20}", "--block",
                stdout=log, stderr=log, env=found,
            )  # fmt: skip

    def wait_for_ray(self, seconds: float = 90.0) -> None:
        """Wait until Ray's node has started here.

        Raises:
            TimeoutError: with the end of what Ray has said.
        """
        log, end = self.folder / "ray.log", time.monotonic() + seconds
        while "Ray runtime started" not in log.read_text():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name}: no Ray within {seconds:g} s: {log.read_text()}")
            if "Error" in log.read_text():
                raise OSError(f"{self.name}: {log.read_text()}")
            time.sleep(0.1)

    def cut(self) -> None:
        """Pull the cable: nothing arrives, nothing is closed."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def mend(self) -> None:
        """Put the cable back."""
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def cut_for(self, seconds: float) -> threading.Thread:
        """Pull the cable now and put it back after some seconds; return what does so."""
        self.cut()

        def later() -> None:
            time.sleep(seconds)
            self.mend()

        thread = threading.Thread(target=later, daemon=True)
        thread.start()
        return thread

    def shape(self, loss: float = 0.0, delay: float = 0.0, rate: float = 0.0) -> None:
        """Make the link bad in both directions.

        Args:
            loss: part of the frames that are lost.
            delay: seconds that each takes one way.
            rate: bits a second; 0: no limit.
        """
        aside, near, far = (f"{name}-{self.port}" for name in ("aside", "near", "far"))
        program = [sys.executable, "-m", "tests.hosts.bad_link", near, far]
        how = [f"--loss={loss}", f"--delay={delay}", f"--rate={rate}"]
        self._bad = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.switch, *program, *how],
            cwd=ROOT, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._bad.stdout is not None and self._bad.stdout.readline() == b"ready\n"
        inside = ("-n", self.switch, "link")
        _ip(*inside, "add", aside, "type", "bridge")
        _ip(*inside, "set", aside, "up")
        _ip(*inside, "set", far, "master", "bridge", "up")
        for device in (near, self.port):
            _ip(*inside, "set", device, "master", aside, "up")

    def unshape(self) -> None:
        """Make the link good again."""
        _ip("-n", self.switch, "link", "set", self.port, "master", "bridge")
        if self._bad is not None:
            self._bad.kill()
            self._bad.wait()
            self._bad = None
        _ip("-n", self.switch, "link", "delete", f"aside-{self.port}")

    def power_off(self) -> None:
        """Take the power away for good: silence first, so that no connection is closed."""
        self.cut()
        self.kill()

    def kill_one(self, name: str) -> None:
        """Kill the processes of this host that are called so."""
        assert self._first is not None
        (namespace,) = psutil.Process(self._first.pid).children()
        own = os.readlink(f"/proc/{namespace.pid}/ns/pid")
        for process in psutil.process_iter(["name"]):
            with suppress(OSError, psutil.NoSuchProcess):
                there = os.readlink(f"/proc/{process.pid}/ns/pid")
                if there == own and process.info["name"] == name:
                    process.kill()

    def kill(self) -> None:
        """Kill every process of this host."""
        if self._bad is not None:
            self.unshape()
        if self._first is not None:
            # The kernel kills all others with the first of a list of processes.
            self._first.kill()
            self._first.wait()
            self._first = None


class Network:
    """A switch and hosts on it.

    Args:
        names: of the hosts.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # Ray's sockets lie below it, whose names must be short.
        self._folder = tempfile.TemporaryDirectory(prefix="hosts-", ignore_cleanup_errors=True)
        number = next(_NUMBERS)
        self._prefix = f"sunflower-{os.getpid()}-{number}"
        self._switch = f"{self._prefix}-switch"
        self._net = f"10.{64 + os.getpid() % 64}.{(os.getpid() // 64 + number) % 256}"
        self.hosts: dict[str, Host] = {}
        try:
            self._make(names, Path(self._folder.name))
        except BaseException:
            self.remove()
            raise

    def _make(self, names: Sequence[str], folder: Path) -> None:
        switch = self._switch
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "address", "add", f"{self._net}.254/24", "dev", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for place, name in enumerate(names, start=1):
            host = Host(
                name, f"{self._prefix}-{name}", f"{self._net}.{place}", f"port{place}", switch,
                folder / name,
            )  # fmt: skip
            host.folder.mkdir(parents=True)
            self.hosts[name] = host
            own = ("-n", host.namespace)
            _ip("netns", "add", host.namespace)
            peer = ("peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", switch, "link", "add", host.port, "type", "veth", *peer)
            _ip("-n", switch, "link", "set", host.port, "master", "bridge", "up")
            _ip(*own, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip(*own, "link", "set", "lo", "up")
            _ip(*own, "link", "set", "eth0", "up")
            # Ray finds its own address by the way to the internet.
            _ip(*own, "route", "add", "default", "via", f"{self._net}.254")

    def __getitem__(self, name: str) -> Host:
        """Return a host by name."""
        return self.hosts[name]

    def remove(self) -> None:
        """Kill what runs on the hosts, and take everything away."""
        for host in self.hosts.values():
            host.kill()
        for name in [*(host.namespace for host in self.hosts.values()), self._switch]:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", name)
        self._folder.cleanup()


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Make hosts, and take them away in the end."""
    made = Network(names)
    try:
        yield made
    finally:
        made.remove()


def _ip(*words: str) -> str:
    return _run("ip", *words)


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
