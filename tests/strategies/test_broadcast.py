"""Messages from the server: what clients have is what they read, and errors do not grow."""

import numpy as np
import pytest

from strategies.encodings.broadcast import BROADCAST, Broadcast
from strategies.encodings.low_rank import LowRank
from strategies.encodings.quantised import QSGD, Rounding, ScaledSign
from strategies.encodings.sketch import CountSketch
from strategies.encodings.sparse import RandomK, TopK
from strategies.random_streams import stream

SHAPES = ((12, 9), (9,))
T = 117
ENCODINGS = {
    "top-k": TopK(0.1), "random-k": RandomK(0.1), "qsgd": QSGD(), "sign": ScaledSign(),
    "rounding": Rounding(8, feedback=True), "low-rank": LowRank(2),
    "sketch": CountSketch(0.5, 5, 0.1),
}  # fmt: skip
every = pytest.mark.parametrize("kind", ENCODINGS)
RNG = np.random.default_rng(4)
START = RNG.normal(size=T + 3).astype(np.float32)


def broadcast(kind):
    return Broadcast(ENCODINGS[kind], SHAPES, T, seed=8)


@every
def test_clients_have_what_they_read_from_the_messages(kind):
    """To the bit, from messages of the length that is counted."""
    sender, server, had = broadcast(kind), START.copy(), START.copy()
    for number in range(1, 4):
        server = (server + 0.1 * RNG.normal(size=T + 3)).astype(np.float32)
        message = sender.encode(server, had, number)
        assert len(message) == ENCODINGS[kind].length(SHAPES)
        expected = sender.received(server, had, number)
        had = sender.decode(message, had, server[T:], number)
        assert had.tobytes() == expected.tobytes() and had.dtype == np.float32
        np.testing.assert_array_equal(had[T:], server[T:])


@every
def test_what_was_lost_is_sent_later(kind):
    """Of a server that stands still clients have the model in the end; of one that moves nearly."""
    sender, had = broadcast(kind), np.zeros(T + 3, np.float32)
    for number in range(150):
        had = sender.received(START, had, number)
    assert np.linalg.norm(START[:T] - had[:T]) < 0.05 * np.linalg.norm(START[:T])
    server, far = START.copy(), []
    for number in range(300):
        server = server + (0.01 * RNG.normal(size=T + 3)).astype(np.float32)
        had = sender.received(server, had, number)
        far.append(np.linalg.norm(server[:T] - had[:T]))
    assert max(far[200:]) < 2 * max(far[:200]) and max(far) < np.linalg.norm(START)


def test_qsgd_is_damped_by_its_variance():
    """Lemma 3.1: E ||Q(v) - v||^2 is at most min(d / s^2, sqrt(d) / s) ||v||^2."""
    encoding = QSGD(bits=3, bucket=64)
    assert encoding.damping == pytest.approx(1 / (1 + min(64 / 9, 8 / 3)))
    v = RNG.normal(size=64).astype(np.float32)
    errors = [
        np.sum((encoding.sent(v, ((64,),), lambda i=i: stream(1, BROADCAST, i)) - v) ** 2)
        for i in range(300)
    ]
    assert np.mean(errors) < min(64 / 9, 8 / 3) * np.sum(v**2)
    one = Broadcast(encoding, ((64,),), 64, 1)
    read = encoding.sent(v, ((64,),), lambda: stream(1, BROADCAST, 1))
    found = one.received(v, np.zeros(64, np.float32), 1)
    np.testing.assert_allclose(found, read / (1 + 8 / 3), rtol=1e-6)
