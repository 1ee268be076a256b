"""Datasets: the sources in their order, checksums, the shipped part, and arrays of the user's."""

import gzip
import hashlib
import logging
import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from simulation.datasets import download as fetch
from simulation.datasets import fashion_mnist, registry
from simulation.datasets.dataset import Dataset
from simulation.datasets.registry import DataError, load
from simulation.datasets.shipped import make_mini

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


# The real data.


def test_full_dataset(real, places):
    own = fashion_mnist.own_cache()
    fill(own, real, packed=False)
    data = load("fashion-mnist")
    assert data.source == f"cache {own}"
    assert (data.classes, data.scale) == (10, 1 / 255)
    for x, y, rows in ((data.x_train, data.y_train, 60_000), (data.x_test, data.y_test, 10_000)):
        assert x.shape == (rows, 28, 28, 1)
        assert x.dtype == np.uint8
        assert x.flags.c_contiguous
        assert y.dtype == np.int64
        assert np.bincount(y).tolist() == [rows // 10] * 10


def test_mini_is_what_its_script_makes(real, places):
    fill(fashion_mnist.own_cache(), real, packed=False)
    made = make_mini.make(load("fashion-mnist"))
    with np.load(registry.MINI, allow_pickle=False) as shipped:
        assert sorted(shipped) == sorted(made)
        for part, array in made.items():
            assert np.array_equal(shipped[part], array)


def test_mini_needs_nothing_but_the_package(places):
    data = load("fashion-mnist-mini")
    for x, y, each in ((data.x_train, data.y_train, 600), (data.x_test, data.y_test, 100)):
        assert x.shape == (10 * each, 28, 28, 1)
        assert x.dtype == np.uint8
        assert x.flags.c_contiguous
        assert y.dtype == np.int64
        assert np.bincount(y).tolist() == [each] * 10
        assert len(np.unique(x.reshape(len(x), -1), axis=0)) > 0.99 * len(x)
    assert (data.classes, data.scale, data.source) == (10, 1 / 255, "shipped with Sunflower")
    assert not (places / "own").exists()


def test_mini_can_be_learnt():
    """Images belong to their labels: the nearest class mean is right far above chance."""
    data = load("fashion-mnist-mini")
    train, test = (x.reshape(len(x), -1) * data.scale for x in (data.x_train, data.x_test))
    means = np.stack([train[data.y_train == k].mean(0) for k in range(10)])
    nearest = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == data.y_test).mean() > 0.6


def test_mini_damaged(tmp_path, monkeypatch):
    path = tmp_path / "mini.npz"
    path.write_bytes(registry.MINI.read_bytes()[:100_000])
    monkeypatch.setattr(registry, "MINI", path)
    with pytest.raises(DataError) as caught:
        load("fashion-mnist-mini")
    assert str(caught.value) == (
        f"fashion-mnist-mini must be a whole file, got {path} (File is not a zip file); "
        "install sunflower-fl again"
    )


def test_mini_ships_its_licence():
    text = (registry.MINI.parent / "FASHION_MNIST_LICENSE.txt").read_text()
    assert "Copyright (c) 2017 Zalando SE" in text
    assert "Permission is hereby granted, free of charge" in text
    assert registry.MINI.stat().st_size < 3.5e6


def test_names():
    names = ["fashion-mnist", "fashion-mnist-mini", "mnist", "cifar10", "cifar100", "emnist"]
    names += ["synthetic(ALPHA,BETA)"]
    assert [name for name, _ in registry.names()] == names
    assert all("\n" not in line and line for _, line in registry.names())


def test_unknown_name():
    with pytest.raises(DataError) as caught:
        load("fashion-mnits")
    assert str(caught.value) == (
        "dataset must be one of fashion-mnist, fashion-mnist-mini, mnist, cifar10, cifar100, "
        "emnist, synthetic(ALPHA,BETA), module:function, a path, hf:NAME, "
        "got 'fashion-mnits'; did you mean 'fashion-mnist'?"
    )


# The user's own arrays.


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module with ``make`` and loads ``module:make``."""
    monkeypatch.chdir(tmp_path)
    # What the loader adds to the path goes with the test.
    monkeypatch.setattr(sys, "path", list(sys.path))

    def build(body, name="own_arrays:make"):
        (tmp_path / "own_arrays.py").write_text(
            "import numpy as np\n"
            "x, y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])\n"
            f"def make():\n    {body}\n"
        )
        sys.modules.pop("own_arrays", None)
        try:
            return load(name)
        finally:
            sys.modules.pop("own_arrays", None)

    return build


@pytest.mark.parametrize(
    "body",
    [
        "return (x, y), (x[:2], y[:2])",
        "return dict(x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])",
        "from simulation.datasets.registry import Dataset\n"
        "    return Dataset('mine', x, y, x[:2], y[:2], 3, 1.0, 'disk')",
        "return [[x.tolist(), y.tolist()], [x[:2], y[:2]]]",
    ],
)
def test_own_classification(own, body):
    data = own(body)
    assert isinstance(data, Dataset)
    assert np.array_equal(data.x_train, np.arange(12.0).reshape(6, 2))
    assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.y_test.tolist() == [0, 1]
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int64)
    assert (data.classes, data.scale) == (3, 1.0)
    assert (data.name, data.source) == ("own_arrays:make", "own_arrays:make")


def test_own_regression(own):
    data = own("return (x, y * 0.5), (x, y * 0.5)")
    assert data.classes is None
    assert data.y_train.dtype == np.float32
    assert data.y_train.tolist() == [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]


def test_own_images_are_scaled_and_options_are_kept(own):
    image = "i = np.zeros((6, 4, 4), np.uint8); "
    assert own(image + "return (i, y), (i, y)").scale == 1 / 255
    given = "dict(x_train=i, y_train=y, x_test=i, y_test=y, classes=7, scale=0.5)"
    data = own(image + f"return {given}")
    assert (data.classes, data.scale) == (7, 0.5)


SHAPE = "the function must return (x_train, y_train), (x_test, y_test), a mapping or Dataset, got "
BAD = {
    "return 3": SHAPE + "int",
    "return x, y": SHAPE + "tuple of ndarray, ndarray",
    "return zip(x, y)": SHAPE + "a zip: return whole arrays and yield nothing",
    "yield x, y": SHAPE + "a generator: return whole arrays and yield nothing",
    "return ([x, x], [y, y]), (x, y)": (
        "x_train and x_test must have examples of the same shape and type, got (6, 2) float32 and "
        "(2,) float32 (a list of arrays is one array: join those of several clients)"
    ),
    "return {f'client{c}': (x, y) for c in range(4)}": (
        "the mapping must have the keys x_train, y_train, x_test, y_test, got client0, client1, "
        "client2, ... (if they are clients, join their rows and say in owners whose each row is)"
    ),
    "raise KeyError('k')": "the function must return arrays, got KeyError: 'k'",
    "return (x, y[:5]), (x, y)": (
        "x_train and y_train must have the same length, at least 1, got 6 and 5"
    ),
    "return (x, y), (x[:0], y[:0])": (
        "x_test and y_test must have the same length, at least 1, got 0 and 0"
    ),
    "return (x, y), (x[:, :1], y)": (
        "x_train and x_test must have examples of the same shape and type, "
        "got (2,) float32 and (1,) float32"
    ),
    "return (x, y), (x, y * 1.0)": (
        "y_train and y_test must have examples of the same shape and type, "
        "got () int64 and () float32"
    ),
    "return (x[:, 0], y), (x[:, 0], y)": (
        "x_train must have one row per example, [N, ...], got shape (6,)"
    ),
    "return ([np.zeros((2, 3)), np.zeros((4, 3))], y[:2]), (x, y)": (
        "x_train must have examples of one shape, got (2, 3) and (4, 3)"
    ),
    "return (np.array([np.zeros((1, 3)), np.zeros((2, 3))], object), y[:2]), (x, y)": (
        "x_train must have examples of one shape, got (1, 3) and (2, 3)"
    ),
    "import pandas as pd; f = pd.DataFrame(x, columns=['a', 'b']).assign(c=1)\n"
    "    f['sex'] = f.c.astype(object); return (f, y), (f, y)": (
        "column 'sex' of x_train must hold numbers, got object"
    ),
    "return (x.astype(object), y), (x, y)": "x_train must be an array of numbers, got dtype object",
    "return (x, y.astype(str)), (x, y)": "y_train must be an array of numbers, got dtype <U21",
    "return (x, y), (x * np.nan, y)": "x_test must be finite, got 12 values that are not",
    "return (x, y * np.inf), (x, y)": "y_train must be finite, got 6 values that are not",
    "return (x, y - 1), (x, y)": (
        "y_train must hold class numbers from 0 upwards (floats for a regression), got -1"
    ),
    "return (x, np.eye(6, dtype=int)), (x, y)": (
        "y_train and y_test must have examples of the same shape and type, "
        "got (6,) int64 and () int64"
    ),
    "return (x, (y, y)), (x, (y, y))": "y_train must be one array of targets, got a tuple of 2",
    "return (x, dict(a=y)), (x, y)": "y_train must be one array of targets, got a mapping of 1",
    "return (x, y, y[:5]), (x, y)": (
        "sample_weight must hold a number for each of the 6 examples, got shape (5,)"
    ),
    "return (x, y), (x, y, y - 1)": "sample_weight_test must hold numbers >= 0, got -1",
    "return (x, y, x[:, 0] * np.nan), (x, y)": (
        "sample_weight must be finite, got 6 values that are not"
    ),
    "return (x, y + 100), (x, y)": (
        "labels must be class numbers below the number of examples (12), got 102"
    ),
    "return {'x_train': x, 'y_test': y}": (
        "the mapping must have the keys x_train, y_train, x_test, y_test, got no y_train, x_test"
    ),
    "return dict(x_train=x, y_train=y, x_test=x, y_test=y, scales=1)": (
        "the mapping may have the keys x_train, y_train, x_test, y_test, classes, scale, owners, "
        "sample_weight, sample_weight_test, owner_names, got 'scales'"
    ),
    "return dict(x_train=x, y_train=y, x_test=x, y_test=y, classes=2)": (
        "classes must be a whole number above 2, got 2"
    ),
    "return dict(x_train=x, y_train=y, x_test=x, y_test=y, scale=0)": (
        "scale must be a number above 0, got 0"
    ),
}


@pytest.mark.parametrize("body", BAD)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # 0 * inf is NaN, as meant
def test_own_arrays_that_break_a_rule(own, body):
    with pytest.raises(DataError) as caught:
        own(body)
    assert str(caught.value) == f"dataset own_arrays:make: {BAD[body]}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own_arrays:", "dataset must be module:function, got 'own_arrays:'"),
        (
            "no_such_module:make",
            "dataset must name a module that imports, got 'no_such_module:make' "
            "(ModuleNotFoundError: No module named 'no_such_module')",
        ),
        (
            "own_arrays:other",
            "dataset must name a function, got 'own_arrays:other' (other is not in own_arrays)",
        ),
        ("own_arrays:x", "dataset must name a function, got 'own_arrays:x' (x is not callable)"),
    ],
)
def test_own_function_that_cannot_be_had(own, name, text):
    with pytest.raises(DataError) as caught:
        own("return (x, y), (x, y)", name)
    assert str(caught.value) == text


def test_own_module_that_raises(own):
    with pytest.raises(DataError) as caught:
        own("pass\nraise RuntimeError('two\\nlines')")
    assert str(caught.value) == (
        "dataset must name a module that imports, got 'own_arrays:make' (RuntimeError: two lines)"
    )


def test_data_dir_of_no_use_is_told(caplog):
    load("fashion-mnist-mini", Path("/somewhere"))
    assert [r.getMessage() for r in caplog.records] == [
        "fashion-mnist-mini: data_dir is of no use here, got /somewhere"
    ]
