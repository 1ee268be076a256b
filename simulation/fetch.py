"""Fetching Fashion-MNIST over the network: public mirrors, then the Debian archive without root."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from simulation import cache

log = logging.getLogger("sunflower.data")

MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
"""The dataset's public mirrors, its own repository first."""

DOWNLOADS = {
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
}
"""SHA-256 of the compressed files as the mirrors serve them; the smallest first, to fail fast."""

PACKAGE = "dataset-fashion-mnist"
TIMEOUT = 10.0
"""Seconds that a mirror may stay silent."""


class Unreachable(OSError):
    """No copy can be fetched; the text says why."""


@contextmanager
def temporary() -> Iterator[Path]:
    """Yield an empty folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="sunflower-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def reachable(hosts: list[str], seconds: float = 3.0) -> set[str]:
    """Return which of ``hosts`` have an address, asking for all at once.

    A resolver without a network may block for half a minute per name, and no timeout of an HTTP
    library covers that. Behind a proxy names need not resolve here: then all count as reachable.
    """
    if getproxies():
        return set(hosts)
    found: set[str] = set()

    def ask(host: str) -> None:
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            return
        found.add(host)

    threads = [threading.Thread(target=ask, args=(host,), daemon=True) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return set(found)


def download(folder: Path) -> None:
    """Fetch the four files into ``folder`` from the first mirror that has each of them right.

    Raises:
        Unreachable: if no mirror serves a file; the text names it.
    """
    hosts = {mirror: str(urlsplit(mirror).hostname) for mirror in MIRRORS}
    alive = reachable(list(hosts.values()))
    mirrors = [mirror for mirror, host in hosts.items() if host in alive]
    if not mirrors:
        raise Unreachable("no public mirror can be reached (offline?)")
    import pooch

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
    for name, digest in DOWNLOADS.items():
        for mirror in list(mirrors):
            log.info("fashion-mnist: downloading %s%s", mirror, name)
            try:
                pooch.retrieve(mirror + name, f"sha256:{digest}", name, folder, None, downloader)
                break
            except ValueError:
                log.warning(
                    "fashion-mnist: %s%s has a wrong checksum; trying the next mirror", mirror, name
                )
            except OSError as error:  # what requests raises derives from it
                log.debug("fashion-mnist: %s%s: %s", mirror, name, error)
            mirrors.remove(mirror)
        else:
            raise Unreachable(f"no public mirror served {name}")


def unpack_package(folder: Path) -> Path:
    """Fetch the Debian/Ubuntu package with apt, unpack it in ``folder``; return where its data is.

    Nothing is installed and root is not needed: where the system's package lists are missing or
    too old, they are fetched into ``folder`` as well (some 10 MB).

    Raises:
        Unreachable: if this is no Debian or Ubuntu, or its archive cannot be reached.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg")
    if apt is None or dpkg is None:
        raise Unreachable("no apt-get and dpkg here (no Debian or Ubuntu)")
    command = [apt, "-q", "-o", "Acquire::Retries=0"]
    for scheme in ("http", "https"):
        command += ["-o", f"Acquire::{scheme}::Timeout={TIMEOUT:.0f}"]
    private = ["-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
    log.info("fashion-mnist: fetching the package %s", PACKAGE)
    try:
        _run([*command, "download", PACKAGE], folder)
    except Unreachable:
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        _run([*command, *private, "update"], folder)
        _run([*command, *private, "download", PACKAGE], folder)
    packages = sorted(folder.glob(f"{PACKAGE}_*.deb"))
    if not packages:
        raise Unreachable(f"apt-get download left no {PACKAGE}_*.deb")
    _run([dpkg, "-x", str(packages[0]), str(folder / "root")], folder)
    images = sorted((folder / "root").rglob("train-images-idx3-ubyte*"))
    if not images:
        raise Unreachable(f"{packages[0].name} does not hold train-images-idx3-ubyte")
    return images[0].parent


def _run(command: list[str], folder: Path, seconds: float = 600.0) -> None:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{Path(command[0]).name}: {error}") from None
    if done.returncode != 0:
        problems = [line for line in done.stdout.splitlines() if line.startswith(("E:", "dpkg"))]
        last = (problems or done.stdout.splitlines() or ["no output"])[-1]
        raise Unreachable(f"{Path(command[0]).name}: {last.strip()}")


def retrieve(url: str, digest: str, path: Path) -> bytes:
    """Fetch a file, check its SHA-256, keep it at ``path`` and return its contents.

    Raises:
        Unreachable: if it cannot be fetched, or is not what it should be.
    """
    host = str(urlsplit(url).hostname)
    if host not in reachable([host]):
        raise Unreachable(f"{host} has no address here (offline?)")
    import pooch

    pooch.get_logger().setLevel("WARNING")
    log.info("downloading %s", url)
    with temporary() as folder:
        downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
        try:
            found = pooch.retrieve(url, f"sha256:{digest}", path.name, folder, None, downloader)
        except ValueError:
            raise Unreachable(f"{url} has a wrong checksum") from None
        except OSError as error:  # what requests raises derives from it
            raise Unreachable(f"{url}: {' '.join(str(error).split())}") from None
        data = Path(found).read_bytes()
    cache.write(path, lambda file: file.write(data))
    return data
