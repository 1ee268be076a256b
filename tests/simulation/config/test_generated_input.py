"""Bad experiments by the hundred: each a clean message and status 2, never a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from simulation.cli import commands
from simulation.runs import run

WORDS = st.text("abcdefghijklmnopqrstuvwxyz_-äß0123456789 ", min_size=1, max_size=12)
ODD = st.one_of(
    st.just([]), st.just({}), st.lists(st.integers(), max_size=3), st.dictionaries(WORDS, WORDS)
)
NOT_A_NUMBER = st.one_of(WORDS.map(lambda w: f"x{w}"), st.booleans(), ODD)
NOT_TEXT = st.one_of(st.integers(), st.floats(), st.booleans(), st.lists(st.integers(), min_size=1))
BROKEN = st.sampled_from([float("nan"), float("inf"), float("-inf")])
LESS_THAN_ONE = st.one_of(st.integers(max_value=0), NOT_A_NUMBER, BROKEN, st.just(1.5))
NOT_POSITIVE = st.one_of(st.floats(max_value=0, allow_nan=False), NOT_A_NUMBER, BROKEN)
NO_SHARE = st.one_of(
    st.floats(min_value=1.0), st.floats(max_value=-1e-9, allow_nan=False), NOT_A_NUMBER, BROKEN
)

BAD: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        (
            "clients",
            "rounds",
            "training.batch_size",
            "evaluation.every",
            "evaluation.batch_size",
            "resources.workers",
            "partition.classes_per_client",
            "partition.shards_per_client",
            "partition.examples_per_client",
            "faults.min_replies",
            "faults.attempts",
            "faults.checkpoint_every",
        ),
        LESS_THAN_ONE,
    ),
    **dict.fromkeys(
        (
            "training.learning_rate",
            "training.local_epochs",
            "partition.alpha",
            "faults.chunk_timeout",
        ),
        NOT_POSITIVE,
    ),
    **dict.fromkeys(("training.momentum", "partition.validation", "realism.dropout"), NO_SHARE),
    "realism.availability": st.one_of(st.floats(max_value=0, allow_nan=False), NOT_A_NUMBER),
    "realism.stragglers": st.one_of(st.floats(min_value=1.001, allow_nan=False), NOT_A_NUMBER),
    "realism.over_selection": st.one_of(st.floats(max_value=-0.001), NOT_A_NUMBER),
    "realism.drop_stragglers": st.one_of(st.integers(), WORDS, st.just([1])),
    "faults.on_client_error": st.one_of(WORDS.map(lambda w: f"x{w}"), st.integers(), ODD),
    "cohort": st.one_of(st.integers(max_value=0), st.just(10**9), NOT_A_NUMBER, BROKEN),
    "seed": st.one_of(st.integers(max_value=-1), st.just(2**63), st.just(0.5), NOT_A_NUMBER),
    **dict.fromkeys(
        ("model", "strategy.name", "dataset", "partition.kind", "mode", "resources.engine"),
        st.one_of(WORDS.map(lambda w: f"x{w}"), NOT_TEXT),
    ),
    **dict.fromkeys(("name", "training.optimizer", "training.loss", "resources.address"), NOT_TEXT),
    **dict.fromkeys(
        ("training", "evaluation", "resources", "faults", "realism", "partition", "strategy"),
        st.one_of(st.integers(), st.booleans(), st.lists(st.integers(), min_size=1)),
    ),
    **dict.fromkeys(("evaluation.server", "evaluation.clients"), st.just("perhaps")),
}
GOOD: dict[str, Any] = {"dataset": "fashion-mnist-mini", "clients": 10, "rounds": 1}


@st.composite
def bad_experiments(draw: st.DrawFn) -> dict[str, Any]:
    """Return a good experiment with one to three of its keys spoilt, or with keys unknown."""
    data: dict[str, Any] = dict(GOOD)
    keys = draw(st.lists(st.sampled_from(sorted(BAD)), max_size=3, unique=True))
    for key in sorted(keys, key=lambda k: k.count("."), reverse=True):
        table, _, last = key.rpartition(".")
        inner = data.setdefault(table, {}) if table else data
        inner[last] = draw(BAD[key])
    if not keys or draw(st.booleans()):
        data[f"x{draw(WORDS)}"] = draw(st.one_of(st.integers(), WORDS, ODD))
    return data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None) -> Path:
    def started(*_: object) -> None:
        pytest.fail("an engine was started")

    monkeypatch.setattr(run, "engine_for", started)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(folder: Path, *args: str) -> None:
    before = sorted(folder.iterdir())
    found = CliRunner().invoke(commands.main, ["run", *args])
    assert found.exit_code == 2, (args, found.output)
    assert isinstance(found.exception, SystemExit)
    lines = found.stderr.splitlines()
    assert lines and all(line.startswith("sunflower: ") for line in lines), lines
    assert "Traceback" not in found.output
    assert sorted(folder.iterdir()) == before


QUICK = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@QUICK
@given(data=bad_experiments())
def test_bad_files(data: dict[str, Any], folder: Path) -> None:
    file = folder / "bad.toml"
    file.write_text(tomli_w.dumps(data), encoding="utf-8")
    refuse(folder, str(file))


@QUICK
@given(data=bad_experiments())
def test_bad_options(data: dict[str, Any], folder: Path) -> None:
    """The same by ``--set``, a key at a time."""
    pairs = []
    for key, value in data.items():
        many = value.items() if isinstance(value, dict) and value else [("", value)]
        for inner, one in many:
            text = tomli_w.dumps({"v": one}).partition("=")[2].strip() if one != {} else "{}"
            pairs += ["--set", f"{key}.{inner}={text}".replace(".=", "=")]
    refuse(folder, *pairs)
