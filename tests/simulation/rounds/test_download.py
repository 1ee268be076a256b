"""Models that come encoded: what clients train from, the bytes of each, the clock, and refusals."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.serverapp import strategy as flower

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.rounds.download import Download
from simulation.rounds.folding import FoldingDriver
from simulation.runs.run import make_strategy, simulate
from strategies.encodings.broadcast import Broadcast
from strategies.encodings.sparse import TopK
from strategies.spec import Spec
from tests.simulation.same_bits import StopAfter

TOP = {"kind": "top-k", "fraction": 0.05}
SPEC = Spec(("w", "moving"), ((10, 10), (3,)), trainable=1)


def sent() -> Download:
    return Download(Broadcast(TopK(0.05), SPEC.shapes[:1], 100, seed=1), SPEC, clients=6)


def test_who_was_away_is_sent_what_it_has_missed_or_the_whole_model() -> None:
    download, x = sent(), np.zeros(103, np.float32)
    each = -(-5 * (32 + 7) // 8) + 4 * 3
    assert (download.message, download.whole) == (each, 4 * 103)
    for number in range(12):
        download.send(x + number)
        if number == 0:
            assert download.bytes_for(range(6)).tolist() == [412] * 6
            assert download.deliver([0, 1]) == 2 * 412
        if number == 3:
            assert download.deliver([1, 2]) == 3 * each + 412
            assert download.deliver([2]) == 0
    least = [min(412, 11 * each), min(412, 8 * each), min(412, 8 * each)]
    assert download.bytes_for([0, 1, 2, 5]).tolist() == [*least, 412]


def test_what_a_checkpoint_holds_is_not_changed_by_later_rounds() -> None:
    download, x = sent(), np.arange(103, dtype=np.float32)
    assert download.state == {}
    download.send(x)
    download.deliver([3])
    held = download.state
    copies = {name: np.array(value) for name, value in held.items()}
    other = sent()
    assert other.restore({**held, "momentum": 1}) == {"momentum": 1}
    first = [download.send(x**1.1), download.deliver([0, 3])]
    assert all(np.array_equal(held[name], copies[name]) for name in held)
    again = [other.send(x**1.1), other.deliver([0, 3])]
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]


def test_a_run_trains_from_what_clients_have_and_goes_on_to_the_bit(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small.replace(model="logistic", rounds=4, cohort=5)
    wanted = small.replace(compression={"kind": "qsgd", "download": TOP})
    received: list[np.ndarray] = []
    plain = FoldingDriver._sent

    def seen(driver: FoldingDriver, model: np.ndarray) -> np.ndarray:
        received.append(plain(driver, model))
        return received[-1]

    monkeypatch.setattr(FoldingDriver, "_sent", seen)
    whole = simulate(wanted, out=tmp_path / "whole")
    changed = [np.count_nonzero(b - a) for a, b in pairwise(received)]
    entries = int(0.05 * whole.weights.size)
    assert changed == [entries] * 3
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(2))
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    for ours, theirs in zip(resumed.rounds, whole.rounds, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    _check_bytes(whole.path, whole.rounds, whole.weights.size)
    # All entries in every message: the server's model itself, up to a rounding of its last bit.
    every = small.replace(**{"compression.download": {"kind": "top-k", "fraction": 1.0}})
    np.testing.assert_allclose(simulate(every).weights, simulate(small).weights, atol=1e-6)


def _check_bytes(path: Path, rounds: list[dict[str, Any]], parameters: int) -> None:
    """Recompute what every client had missed."""
    table = pd.read_parquet(path / "clients.parquet")
    count = int(0.05 * parameters)
    each = (count * (32 + (parameters - 1).bit_length()) + 7) // 8
    last: dict[int, int] = {}
    for line in rounds[1:]:
        number, whole = line["round"], 4 * parameters
        clients = table.loc[table["round"] == number, "client"].tolist()
        expected = sum(
            min(whole, (number - last[c]) * each) if c in last else whole for c in clients
        )
        assert line["bytes_down"] == expected
        last |= dict.fromkeys(clients, number)
    assert len(last) > 5


def test_the_clock_has_the_bytes_of_each_client(small: Experiment, tmp_path: Path) -> None:
    links = {"step_seconds": 1e-6, "up": 1e12, "down": 1e3, "latency": 0.0}
    wanted = small.replace(
        model="logistic", rounds=3, cohort=5, devices=links, compression={"download": TOP}
    )
    made = simulate(wanted, out=tmp_path / "run")
    events = pd.read_parquet(made.path / "events.parquet")
    by_round = events.groupby("round")["bytes_down"].sum()
    assert by_round.tolist() == [line["bytes_down"] for line in made.rounds[1:]]
    assert events["bytes_down"].nunique() > 1
    took = (events["arrived"] - events["dispatched"]).to_numpy()
    # At 1 kB/s all else takes no time to speak of.
    np.testing.assert_allclose(took, events["bytes_down"] / 1000, rtol=0.01)


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"strategy": "fedper"},
        "compression.download must be left out with FedPer, of whose model a part stays on the "
        "clients, got 'top-k'",
    ),
    (
        {"strategy": "ifca"},
        "compression.download must be left out with IFCA, whose server has several models, got "
        "'top-k'",
    ),
    (
        {"resources": {"engine": "flower"}},
        "compression.download must be left out with the engine 'flower', whose messages hold whole "
        "models, got 'top-k'",
    ),
    (
        {"devices": "equal", "schedule": "buffered"},
        "compression.download must be left out with the schedule 'buffered', whose clients have "
        "models of unlike age, got 'top-k'",
    ),
    (
        {"devices": "equal", "schedule": {"kind": "hierarchical", "edges": 2}},
        "compression.download must be left out with the schedule 'hierarchical', whose edges have "
        "models of their own, got 'top-k'",
    ),
    (
        {"compression": {"download": {"kind": "top-k", "bits": 3}}},
        "compression.download.bits must be left out for the download 'top-k', got 3",
    ),
    (
        {"compression": {"download": {"kind": "qsgd", "bits": 1}}},
        "compression.download.bits must be from 2 to 16, got 1",
    ),
]


@pytest.mark.parametrize(("changes", "line"), BAD, ids=lambda value: str(value)[:40])
def test_what_cannot_be_had_is_one_line(
    changes: dict[str, Any], line: str, small: Experiment
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy(small.replace(**{"compression": {"download": TOP}, **changes}))
    assert str(caught.value) == line


def test_flowers_strategies_send_whole_arrays(small: Experiment) -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy(small.replace(compression={"download": "sign"}), flower.FedAvg())
    assert str(caught.value) == (
        "compression.download must be left out with a Flower strategy, whose messages hold whole "
        "arrays, got 'sign'"
    )


def test_a_download_that_is_not_asked_for_changes_no_identity() -> None:
    plain = parse({"compression": "top-k"})
    assert "download" not in plain.decisive()["compression"]
    asked = plain.replace(**{"compression.download": "sign"})
    assert asked.decisive()["compression"]["download"]["kind"] == "sign"
    assert asked.digest() != plain.digest()
    assert parse({"compression": {"download": {"kind": "sign"}}}).compression.kind == "none"
