"""Where Fashion-MNIST comes from: the sources in their order, checksums, fetching."""

import gzip
import hashlib
import logging
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from simulation.datasets import download as fetch
from simulation.datasets import fashion_mnist
from simulation.datasets.registry import DataError, load

SMALL = {name: f"content of {name}".encode() * 50 for name in fashion_mnist.CONTENT}
"""Four small files that stand for the real ones where only the handling is tested."""


def digest(data):
    return hashlib.sha256(data).hexdigest()


def fill(folder, files=SMALL, *, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


def nowhere(*_):
    raise fetch.Unreachable("offline")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Every source empty and in tmp_path; the network cut."""
    monkeypatch.setenv("SUNFLOWER_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path / "system")
    monkeypatch.setattr(fashion_mnist, "download", nowhere)
    monkeypatch.setattr(fashion_mnist, "unpack_package", nowhere)
    return tmp_path


@pytest.fixture
def small(places, monkeypatch):
    """As ``places``, with the checksums of the small files."""
    monkeypatch.setattr(
        fashion_mnist, "CONTENT", {name: digest(data) for name, data in SMALL.items()}
    )
    return places


@pytest.fixture(scope="session")
def real():
    """The real files, where this machine has them."""
    for folder in (
        fashion_mnist.own_cache(),
        fashion_mnist.keras_cache(),
        fashion_mnist.SYSTEM_DIR,
    ):
        try:
            return fashion_mnist.read_folder(folder)
        except DataError:
            continue
    pytest.skip("the full Fashion-MNIST is in no local source of this machine")


# The order of the sources.


def local(places):
    return [
        places / "own" / "fashion-mnist",
        places / "keras" / "datasets" / "fashion-mnist",
        places / "system",
    ]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_first_source_that_has_the_files_serves_them(small, caplog, first):
    for folder in local(small)[first:]:
        fill(folder)
    names = [f"cache {local(small)[0]}", f"Keras cache {local(small)[1]}"]
    names.append(f"system package {local(small)[2]}")
    with caplog.at_level(logging.INFO, "sunflower.data"):
        files, source = fashion_mnist.fashion_mnist()
    assert files == SMALL
    assert source == names[first]
    assert [r.getMessage() for r in caplog.records] == [f"fashion-mnist: served by {names[first]}"]


def test_mirrors_come_before_the_archive_and_both_after_what_is_local(small, monkeypatch):
    asked = []

    def download(folder):
        asked.append("mirrors")
        nowhere()

    def unpack(folder):
        asked.append("archive")
        return fill(folder / "root" / "usr")

    monkeypatch.setattr(fashion_mnist, "download", download)
    monkeypatch.setattr(fashion_mnist, "unpack_package", unpack)
    assert fashion_mnist.fashion_mnist() == (SMALL, "Debian package dataset-fashion-mnist")
    assert asked == ["mirrors", "archive"]
    # Kept: the second time nothing is asked.
    assert fashion_mnist.fashion_mnist() == (SMALL, f"cache {local(small)[0]}")
    assert asked == ["mirrors", "archive"]
    assert sorted(p.name for p in local(small)[0].iterdir()) == sorted(SMALL)


def test_a_cache_that_cannot_be_written_costs_a_warning_only(small, monkeypatch, caplog):
    blocked = small / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("SUNFLOWER_CACHE", str(blocked))
    fill(local(small)[2])
    files, _ = fashion_mnist.fashion_mnist()
    assert files == SMALL
    path = blocked / "fashion-mnist" / next(iter(SMALL))
    assert [r.getMessage().partition(" (")[0] for r in caplog.records] == [
        f"cache: {path} cannot be written"
    ]


# Damage.


def wrong(path, data, expected):
    return f"{path} has a wrong sha256 ({digest(data)[:12]}..., not {digest(expected)[:12]}...)"


def test_a_wrong_checksum_is_a_warning_and_the_next_source_serves(small, caplog):
    keras, system = local(small)[1:]
    name = "t10k-images-idx3-ubyte"
    fill(keras, {**SMALL, name: b"other"})
    fill(system)
    files, source = fashion_mnist.fashion_mnist()
    assert files == SMALL
    assert source == f"system package {system}"
    text = wrong(keras / f"{name}.gz", b"other", SMALL[name])
    assert [r.getMessage() for r in caplog.records] == [
        f"fashion-mnist: {text}; trying the next source"
    ]


def test_a_damaged_cache_is_repaired_from_the_next_source(small):
    own, _, system = local(small)
    fill(own, {name: data[:-1] for name, data in SMALL.items()}, packed=False)
    fill(system)
    assert fashion_mnist.fashion_mnist() == (SMALL, f"system package {system}")
    assert fashion_mnist.fashion_mnist() == (SMALL, f"cache {own}")


def test_a_wrong_checksum_in_data_dir_is_an_error_although_others_have_the_files(small):
    name = "train-labels-idx1-ubyte"
    folder = fill(small / "given", {**SMALL, name: b"other"}, packed=False)
    fill(local(small)[0])
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", folder)
    text = wrong(folder / name, b"other", SMALL[name])
    assert str(caught.value) == f"data_dir must hold the files of Fashion-MNIST: {text}"


def test_a_truncated_gz_in_data_dir(small):
    folder = fill(small / "given")
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", folder)
    assert str(caught.value) == (
        f"data_dir must hold the files of Fashion-MNIST: {path} cannot be decompressed "
        "(Compressed file ended before the end-of-stream marker was reached)"
    )


def test_missing_files_in_data_dir(places):
    (places / "given").mkdir()
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", places / "given")
    assert str(caught.value) == (
        "data_dir must hold the files of Fashion-MNIST: "
        f"no train-images-idx3-ubyte[.gz] in {places / 'given'}"
    )


@pytest.mark.parametrize("inner", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_data_dir_may_be_the_parent_that_keras_or_torchvision_fills(small, inner):
    fill(small / "given" / inner)
    assert fashion_mnist.fashion_mnist(small / "given") == (SMALL, f"data_dir {small / 'given'}")


def test_no_source_at_all_says_the_ways_out(places):
    with pytest.raises(DataError) as caught:
        load("fashion-mnist")
    absent = [f"no train-images-idx3-ubyte[.gz] in {folder}" for folder in local(places)]
    assert str(caught.value) == (
        "fashion-mnist cannot be found or fetched. Ways out: use --dataset fashion-mnist-mini, "
        "which is part of Sunflower; or give --data-dir a folder that holds "
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz; or, on Debian and Ubuntu, run "
        "'sudo apt-get install dataset-fashion-mnist'; or connect to the internet. "
        f"Tried: {'; '.join([*absent, 'offline', 'offline'])}"
    )


# Fetching, with servers and programs of this test's own.


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return a function that serves a folder over HTTP and gives its address."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    running = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def serve(folder):
        handler = partial(Quiet, directory=str(folder))
        httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        running.append((httpd, thread))
        return f"http://127.0.0.1:{httpd.server_address[1]}/"

    yield serve
    for httpd, thread in running:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def served(folder, files):
    fill(folder, files)
    return {f"{n}.gz": digest((folder / f"{n}.gz").read_bytes()) for n in files}


def test_download_goes_on_to_the_next_mirror(tmp_path, monkeypatch, server, caplog):
    good = served(tmp_path / "good", SMALL)
    name = "t10k-labels-idx1-ubyte"
    served(tmp_path / "bad", {**SMALL, name: b"other"})
    (tmp_path / "empty").mkdir()
    mirrors = tuple(server(tmp_path / folder) for folder in ("empty", "bad", "good"))
    monkeypatch.setattr(fashion_mnist, "MIRRORS", mirrors)
    monkeypatch.setattr(fashion_mnist, "DOWNLOADS", good)
    (tmp_path / "to").mkdir()
    fashion_mnist.download(tmp_path / "to")
    assert {p.name: digest(p.read_bytes()) for p in (tmp_path / "to").iterdir()} == good
    assert [r.getMessage() for r in caplog.records if r.name == "sunflower.data"] == [
        f"fashion-mnist: {mirrors[1]}{name}.gz has a wrong checksum; trying the next mirror"
    ]


def test_download_names_the_file_that_no_mirror_serves(tmp_path, monkeypatch, server):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(fashion_mnist, "MIRRORS", (server(tmp_path / "empty"),))
    with pytest.raises(fetch.Unreachable, match=r"^no public mirror served t10k-labels-idx1-u"):
        fashion_mnist.download(tmp_path)


def test_offline_is_noticed_while_names_are_still_looked_up(tmp_path, monkeypatch):
    # No look-up ends before both are under way and the test has its answer.
    together = threading.Barrier(3, timeout=60)
    monkeypatch.setattr(fetch, "getproxies", dict)
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *_: together.wait())
    assert fetch.reachable(["a.invalid", "b.invalid"], seconds=0.05) == set()
    together.wait()

    def unknown(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(fetch.socket, "getaddrinfo", unknown)
    with pytest.raises(fetch.Unreachable, match=r"^no public mirror can be reached \(offline\?\)$"):
        fashion_mnist.download(tmp_path)


APT = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *" update") exit 0;; esac
case "$*" in *Dir::State::lists=*) ;; *) {first};; esac
echo archive > dataset-fashion-mnist_1_all.deb
"""
DPKG = """#!/bin/sh
echo "dpkg $@" >> {log}
mkdir -p "$3/usr/share/somewhere" && cp {files}/* "$3/usr/share/somewhere"
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a function that puts stand-ins for apt-get and dpkg first on the PATH."""

    def install(first):
        folder = tmp_path / "bin"
        folder.mkdir()
        values = {"log": tmp_path / "log", "files": fill(tmp_path / "files"), "first": first}
        for name, text in (("apt-get", APT), ("dpkg", DPKG)):
            (folder / name).write_text(text.format(**values))
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return tmp_path / "log"

    return install


def commands(log):
    return [line.split()[-2:] for line in log.read_text().splitlines()]


def test_the_archive_package_is_fetched_and_unpacked(tmp_path, programs):
    log = programs("true")
    work = tmp_path / "work"
    work.mkdir()
    folder = fashion_mnist.unpack_package(work)
    assert {p.name for p in folder.iterdir()} == {f"{name}.gz" for name in SMALL}
    package = str(work / "dataset-fashion-mnist_1_all.deb")
    assert commands(log) == [["download", "dataset-fashion-mnist"], [package, str(work / "root")]]


def test_without_package_lists_it_fetches_its_own(tmp_path, programs):
    log = programs("echo 'E: Unable to locate package'; exit 100")
    work = tmp_path / "work"
    work.mkdir()
    assert fashion_mnist.unpack_package(work).is_relative_to(work)
    lines = log.read_text().splitlines()
    assert [f"Dir::State::lists={work}/lists" in line for line in lines] == [
        False,
        True,
        True,
        False,
    ]
    assert lines[1].endswith("update")


def test_apt_failure_is_told_in_its_own_words(tmp_path, programs):
    programs("true")
    script = tmp_path / "bin" / "apt-get"
    script.write_text("#!/bin/sh\necho Reading...\necho 'E: The archive is down'\nexit 100\n")
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(fetch.Unreachable, match=r"^apt-get: E: The archive is down$"):
        fashion_mnist.unpack_package(work)


def test_no_apt_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        fetch.Unreachable, match=r"^no apt-get and dpkg here \(no Debian or Ubuntu\)$"
    ):
        fashion_mnist.unpack_package(tmp_path)
