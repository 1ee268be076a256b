"""Where Fashion-MNIST comes from: six sources, each checked by SHA-256 before it is believed.

The sources hold the same four IDX files, but the Debian package and the mirrors compress them
differently. What is checked is therefore the content after decompression; a download is checked
as it arrives as well.

Source: Xiao, Rasul and Vollgraf (2017), Fashion-MNIST, arXiv 1708.07747.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from simulation.datasets import cache
from simulation.datasets.download import TIMEOUT, Unreachable, reachable, temporary
from simulation.datasets.errors import Damaged, DataError, Missing

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


SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian/Ubuntu package ``dataset-fashion-mnist`` puts its files."""

CONTENT = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of every decompressed file."""

Files = dict[str, bytes]
"""The four decompressed IDX files by name."""


def read_folder(folder: Path) -> Files:
    """Return the four files of ``folder``, plain or ``.gz``, decompressed and checked.

    The folder may also be the parent that Keras (``fashion-mnist/``) or torchvision
    (``FashionMNIST/raw/``) would fill.

    Raises:
        Missing: if a file is not there.
        Damaged: if one cannot be decompressed or has a wrong checksum; the text names it.
    """
    for inner in ("", "fashion-mnist", "FashionMNIST/raw"):
        paths = [_find(folder / inner, name) for name in CONTENT]
        if any(paths):
            break
    absent = [name for name, path in zip(CONTENT, paths, strict=True) if path is None]
    if absent:
        raise Missing(f"no {absent[0]}[.gz] in {folder}")
    found = zip(CONTENT.items(), paths, strict=True)
    return {name: _read(path, digest) for (name, digest), path in found if path is not None}


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Damaged(f"{path} cannot be decompressed ({error})") from None
    except OSError as error:
        raise Missing(f"{path} cannot be read ({error.strerror})") from None
    actual = cache.sha256(data)
    if actual != digest:
        raise Damaged(f"{path} has a wrong sha256 ({actual[:12]}..., not {digest[:12]}...)")
    return data


def own_cache() -> Path:
    """Return where Sunflower keeps the decompressed files."""
    return cache.cache_dir() / "fashion-mnist"


def keras_cache() -> Path:
    """Return where ``keras.datasets.fashion_mnist`` keeps its files."""
    home = os.environ.get("KERAS_HOME")
    base = Path(home).expanduser() if home else Path.home() / ".keras"
    return base / "datasets" / "fashion-mnist"


def _from_mirrors() -> Files:
    with temporary() as folder:
        try:
            download(folder)
        except Unreachable as error:
            raise Missing(str(error)) from None
        return read_folder(folder)


def _from_archive() -> Files:
    with temporary() as folder:
        try:
            return read_folder(unpack_package(folder))
        except Unreachable as error:
            raise Missing(str(error)) from None


Source = tuple[str, Callable[[], Files]]


def sources() -> list[Source]:
    """Return the sources in the order in which they are tried, the local ones first."""
    own, keras = own_cache(), keras_cache()
    return [
        (f"cache {own}", lambda: read_folder(own)),
        (f"Keras cache {keras}", lambda: read_folder(keras)),
        (f"system package {SYSTEM_DIR}", lambda: read_folder(SYSTEM_DIR)),
        ("public mirrors", _from_mirrors),
        ("Debian package dataset-fashion-mnist", _from_archive),
    ]


def fashion_mnist(data_dir: Path | None = None) -> tuple[Files, str]:
    """Return the four files and the name of the source that served them.

    Args:
        data_dir: a folder to take them from, and from nowhere else.

    Raises:
        DataError: if ``data_dir`` lacks a file or holds a damaged one, or no source has them.
    """
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        try:
            files = read_folder(folder)
        except DataError as error:
            raise DataError(f"data_dir must hold the files of Fashion-MNIST: {error}") from None
        log.info("fashion-mnist: served by data_dir %s", folder)
        return files, f"data_dir {folder}"
    reasons = []
    for number, (name, take) in enumerate(sources()):
        try:
            files = take()
        except Damaged as error:
            log.warning("fashion-mnist: %s; trying the next source", error)
            reasons.append(str(error))
        except Missing as error:
            log.debug("fashion-mnist: %s: %s", name, error)
            reasons.append(str(error))
        else:
            log.info("fashion-mnist: served by %s", name)
            if number > 0:
                _keep(files)
            return files, name
    raise DataError(
        "fashion-mnist cannot be found or fetched. Ways out: use --dataset fashion-mnist-mini, "
        "which is part of Sunflower; or give --data-dir a folder that holds "
        f"{', '.join(f'{name}.gz' for name in CONTENT)}; or, on Debian and Ubuntu, run "
        "'sudo apt-get install dataset-fashion-mnist'; or connect to the internet. "
        f"Tried: {'; '.join(reasons)}"
    )


def _keep(files: Files) -> None:
    for name, data in files.items():
        # Decompressed: reading and checking them again then takes a tenth of a second.
        if not cache.write(own_cache() / name, partial(_put, data)):
            return


def _put(data: bytes, file: IO[bytes]) -> None:
    file.write(data)
