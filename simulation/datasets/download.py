"""Fetching files over the network: which hosts can be reached, and archives checked by SHA-256."""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from simulation.datasets import cache

log = logging.getLogger("sunflower.data")

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
