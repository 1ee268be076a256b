"""Encodings: their formulas, their bits, and what is kept of what was not sent."""

from __future__ import annotations

from math import ceil, log2, prod

import numpy as np
import pytest

from strategies import Update
from strategies.encodings import bits
from strategies.encodings.bits import Field
from strategies.encodings.low_rank import LowRank, orthonormal
from strategies.encodings.quantised import QSGD, Rounding, ScaledSign, Ternary
from strategies.encodings.sketch import CountSketch
from strategies.encodings.sparse import RandomK, TopK
from strategies.encodings.votes import MajorityVote, Signs
from strategies.random_streams import stream

SHAPES = [
    ((20, 7), (7,), (3, 3, 2, 5), (5,), ()), ((1,),), ((4, 300), (300,)), ((2, 2),),
]  # fmt: skip

ALL = [
    TopK(0.01), TopK(0.5), TopK(1.0), RandomK(0.1), RandomK(0.1, feedback=False), QSGD(), QSGD(2),
    QSGD(8, bucket=3), ScaledSign(), Signs(), Ternary(), Rounding(), Rounding(1),
    Rounding(5, stochastic=False), Rounding(4, feedback=True), LowRank(1), LowRank(2),
    CountSketch(), CountSketch(0.5, rows=1, keep=1.0), CountSketch(1.0, rows=4, keep=0.2),
]  # fmt: skip


def draw():
    return stream(1, 2, 3)


def made(shapes, kind="normal"):
    size = sum(map(prod, shapes))
    rng = np.random.default_rng(size)
    if kind == "zeros":
        return np.zeros(size, np.float32)
    if kind == "equal":
        return np.full(size, -0.25, np.float32)
    return (rng.normal(size=size) * rng.lognormal(size=size)).astype(np.float32)


def weights(vector, shapes):
    return np.split(vector, np.cumsum([prod(s) for s in shapes])[:-1])


@pytest.mark.parametrize("encoding", ALL, ids=str)
@pytest.mark.parametrize("kind", ["normal", "zeros", "equal"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_a_message_holds_what_the_server_reads(encoding, kind, shapes):
    vector = made(shapes, kind)
    before = vector.copy()
    message = encoding.encode(vector, shapes, draw)
    read = encoding.sent(vector, shapes, draw)
    assert len(message) == encoding.length(shapes)
    assert encoding.decode(message, shapes, draw).tobytes() == read.tobytes()
    assert read.dtype == np.float32 and read.shape == vector.shape
    assert np.isfinite(read).all()
    np.testing.assert_array_equal(vector, before)
    if kind == "zeros" and not isinstance(encoding, Signs):
        assert not read.any()


SHAPE, T = ((40, 25), (25,)), 1025
LENGTHS = [
    (TopK(0.01), (10 * 32 + 10 * ceil(log2(T))) / 8),  # 10 values and 10 places of 11 bits
    (TopK(0.5), (512 * 32 + T) / 8),  # a bit for each entry is shorter than 512 places
    (RandomK(0.1), 102 * 4),
    (QSGD(4), (3 * 32 + 4 * T) / 8),
    (ScaledSign(), 2 * 4 + T / 8),
    (Signs(), T / 8),
    (Ternary(), 2 * 4 + T / 5),
    (Rounding(8), 2 * 2 * 4 + T),
    (LowRank(2), 4 * (2 * (40 + 25) + 25)),
    (CountSketch(0.1, rows=3), 3 * 34 * 4 + 4),  # floor(102.5 / 3) counters in a row, a factor
]


@pytest.mark.parametrize(("encoding", "length"), LENGTHS, ids=str)
def test_lengths(encoding, length):
    assert encoding.length(SHAPE) == ceil(length)


def test_top_k():
    vector = made(SHAPE)
    order = np.argsort(-np.abs(vector))
    expected = np.zeros(T, np.float32)
    expected[order[: int(0.1 * T)]] = vector[order[: int(0.1 * T)]]
    np.testing.assert_array_equal(TopK(0.1).sent(vector, SHAPE, draw), expected)


@pytest.mark.parametrize("feedback", [True, False])
def test_random_k(feedback):
    vector, encoding = made(SHAPE), RandomK(0.1, feedback)
    read = encoding.sent(vector, SHAPE, draw)
    places = np.flatnonzero(read)
    assert len(places) == int(0.1 * T)
    scale = 1.0 if feedback else T / len(places)
    np.testing.assert_allclose(read[places], scale * vector[places], rtol=1e-6)
    other = encoding.sent(vector, SHAPE, lambda: stream(1, 2, 4))
    assert (np.flatnonzero(other) != places).any()


def test_qsgd():
    vector, encoding, u = made(SHAPE).astype(np.float64), QSGD(4, bucket=100), draw().random(T)
    expected = np.zeros(T)
    for start in range(0, T, 100):
        v, lot = vector[start : start + 100], u[start : start + 100]
        norm = np.linalg.norm(v)
        expected[start : start + 100] = norm / 7 * np.sign(v) * np.floor(7 * abs(v) / norm + lot)
    found = encoding.sent(made(SHAPE), SHAPE, draw)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_scaled_sign_and_signs():
    vector = made(SHAPE)
    vector[3] = 0.0
    sign = np.where(vector >= 0, 1.0, -1.0)
    pairs = weights(vector, SHAPE), weights(sign, SHAPE)
    expected = [np.abs(v).mean() * s for v, s in zip(*pairs, strict=True)]
    found = ScaledSign().sent(vector, SHAPE, draw)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-6)
    np.testing.assert_array_equal(Signs().sent(vector, SHAPE, draw), sign)


def test_ternary():
    vector, expected, u = made(SHAPE), [], weights(draw().random(T), SHAPE)
    for v, lot in zip(weights(vector.astype(np.float64), SHAPE), u, strict=True):
        g = np.clip(v, -2.5 * v.std(), 2.5 * v.std())
        s = np.abs(g).max()
        expected.append(s * np.sign(g) * (lot < np.abs(g) / s))
    found = Ternary().sent(vector, SHAPE, draw)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-6)
    assert set(np.sign(found)) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("stochastic", [True, False])
def test_rounding(stochastic):
    vector, expected, u = made(SHAPE), [], weights(draw().random(T), SHAPE)
    for v, lot in zip(weights(vector.astype(np.float64), SHAPE), u, strict=True):
        step = (v.max() - v.min()) / 15
        level = np.floor((v - v.min()) / step + (lot if stochastic else 0.5))
        expected.append(v.min() + step * np.minimum(level, 15))
    found = Rounding(4, stochastic).sent(vector, SHAPE, draw)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-6, atol=1e-6)


def test_low_rank():
    vector = made(SHAPE)
    m, bias = vector[:1000].reshape(40, 25).astype(np.float64), vector[1000:]
    q = draw().standard_normal((25, 2))
    p, _ = np.linalg.qr(m @ q)
    found = LowRank(2).sent(vector, SHAPE, draw)
    np.testing.assert_allclose(found[:1000].reshape(40, 25), p @ p.T @ m, atol=1e-5)
    np.testing.assert_array_equal(found[1000:], bias)
    thin = (np.outer(np.arange(40), np.ones(25)) + np.outer(np.ones(40), np.arange(25))).ravel()
    exact = np.concatenate([thin, bias]).astype(np.float32)
    np.testing.assert_allclose(LowRank(2).sent(exact, SHAPE, draw), exact, atol=1e-4)


def test_columns_that_depend_on_others_are_zero():
    a = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0]])
    found = orthonormal(a)
    np.testing.assert_allclose(found.T @ found, np.diag([1.0, 0.0, 1.0]), atol=1e-12)


UNBIASED = [RandomK(0.2, feedback=False), QSGD(2, bucket=16), Rounding(1)]


@pytest.mark.parametrize("encoding", UNBIASED, ids=str)
def test_the_mean_over_the_draws_is_the_vector(encoding):
    shapes, draws = ((6, 5), (4,)), 3000
    vector = np.random.default_rng(3).normal(size=34).astype(np.float32)
    found = np.array([
        encoding.sent(vector, shapes, lambda i=i: stream(7, i)) for i in range(draws)
    ], np.float64)  # fmt: skip
    error = found.mean(0) - vector
    assert np.all(np.abs(error) <= 5 * found.std(0) / np.sqrt(draws) + 1e-6)
    assert found.std(0).max() > 0.1


@pytest.mark.parametrize("encoding", [e for e in ALL if e.feedback], ids=str)
def test_a_message_leaves_less_than_there_was(encoding):
    """With error feedback an encoding is a contraction, whatever has gathered in the memory."""
    rng, error = np.random.default_rng(0), np.zeros(T, np.float32)
    for round in range(60):
        exact = rng.normal(size=T).astype(np.float32) + error
        error = exact - encoding.sent(exact, SHAPE, lambda round=round: stream(9, round))
        assert np.linalg.norm(error) < np.linalg.norm(exact)


def test_majority_vote():
    votes = np.random.default_rng(1).choice([-1.0, 1.0], size=(4, 6)).astype(np.float32)
    rest = np.arange(8, dtype=np.float32).reshape(4, 2)
    reducer, partials = MajorityVote(0.01), []
    for i in range(4):
        delta = np.concatenate([votes[i], rest[i]])
        partials.append(reducer.lift(Update(i, 1 + 9 * i, delta, trainable=6)))
    a, b, c, d = partials
    mean = reducer.finish(reducer.merge(reducer.merge(a, b), reducer.merge(c, d)))
    expected = [*(0.01 * np.sign(votes.sum(0))), *rest.mean(0)]
    np.testing.assert_allclose(mean.delta, expected, atol=1e-12)
    assert (votes.sum(0) == 0).any(), "a tie, which moves nothing"


def test_a_sketch_is_its_formula():
    """Counters are sums of signed entries; an entry is the median of its counters, times signs."""
    encoding, size = CountSketch(0.4, rows=3, keep=0.05), 1025
    vector = made(SHAPE)
    columns = int(0.4 / 3 * size)
    rng = draw()
    places = rng.integers(0, columns, (3, size))
    signs = 2 * rng.integers(0, 2, (3, size)) - 1
    table = np.zeros((3, columns))
    for row in range(3):
        for entry in range(size):
            table[row, places[row, entry]] += signs[row, entry] * float(vector[entry])
    counters = encoding.parts(vector, SHAPE, draw)["counters"]
    np.testing.assert_allclose(counters.reshape(3, columns), table, atol=1e-5)
    found = [
        sorted(signs[row, entry] * table[row, places[row, entry]] for row in range(3))[1]
        for entry in range(size)
    ]
    read = encoding.sent(vector, SHAPE, draw)
    largest = np.argsort(np.abs(found))[-int(0.05 * size) :]
    expected = np.zeros(size)
    expected[largest] = np.asarray(found)[largest]
    expected *= expected @ vector / (expected @ expected)
    np.testing.assert_allclose(read, expected, atol=1e-5)


def test_a_sketch_finds_what_is_large():
    vector = np.random.default_rng(3).normal(0, 1e-3, 1025).astype(np.float32)
    vector[[5, 700]] = 4.0, -3.0
    read = CountSketch(0.2, rows=5, keep=2 / 1025).sent(vector, SHAPE, draw)
    assert np.flatnonzero(read).tolist() == [5, 700]
    np.testing.assert_allclose(read[[5, 700]], [4.0, -3.0], atol=0.05)


def test_bits_are_checked():
    three, whole = Field("a", 7, "three"), Field("b", 2, "whole", 3)
    parts = {"a": np.array([0, 1, 2, 2, 1, 0, 1]), "b": np.array([5, 2])}
    message = bits.pack([three, whole], parts)
    assert message == bytes([27 + 18 + 6 + 1, 27, 0b10101000])
    found = bits.unpack([three, whole], message)
    assert {name: values.tolist() for name, values in found.items()} == {
        name: values.tolist() for name, values in parts.items()
    }
    with pytest.raises(ValueError, match=r"^message must have 3 bytes, got 2$"):
        bits.unpack([three, whole], message[:2])
    with pytest.raises(ValueError, match=r"^b must be from 0 to 7, got 2 to 8$"):
        bits.pack([whole], {"b": np.array([8, 2])})
    with pytest.raises(ValueError, match=r"^b must have shape \(2,\), got \(3,\)$"):
        bits.pack([whole], {"b": np.array([1, 2, 3])})


BAD = [
    (lambda: TopK(0.0), "fraction must be in (0, 1], got 0.0"),
    (lambda: RandomK(1.5), "fraction must be in (0, 1], got 1.5"),
    (lambda: QSGD(1), "bits must be from 2 to 16, got 1"),
    (lambda: QSGD(bucket=0), "bucket must be >= 1, got 0"),
    (lambda: Rounding(17), "bits must be from 1 to 16, got 17"),
    (lambda: CountSketch(0.0), "fraction must be in (0, 1], got 0.0"),
    (lambda: CountSketch(rows=0), "rows must be >= 1, got 0"),
    (lambda: CountSketch(keep=2.0), "keep must be in (0, 1], got 2.0"),
    (lambda: LowRank(0), "rank must be >= 1, got 0"),
    (lambda: MajorityVote(0.0), "step must be > 0, got 0.0"),
]


@pytest.mark.parametrize(("make", "line"), BAD, ids=[line for _, line in BAD])
def test_bad_options(make, line):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == line
