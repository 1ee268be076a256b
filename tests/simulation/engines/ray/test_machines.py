"""Hosts with other versions or processors: named before the start (no Ray is started)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulation.engines.ray import inspection, machines
from simulation.engines.ray.cluster import ResourceError
from simulation.engines.ray.inspection import Inspection
from simulation.engines.ray.machines import Machine, common, differences, kinds, this_machine

VERSIONS = {"Python": "3.11", "ray": "2.55.1", "tensorflow": "2.21.0", "keras": "3.14.0"}

ONE = Machine("10.0.0.1", VERSIONS, "x86_64 Xeon", frozenset({"avx2", "fma"}))
TWO, THREE = replace(ONE, host="10.0.0.2"), replace(ONE, host="10.0.0.3")


def with_version(machine: Machine, name: str, version: str) -> Machine:
    """Return a machine with another version of something."""
    return replace(machine, versions={**machine.versions, name: version})


def test_alike_machines_have_no_differences() -> None:
    assert differences([ONE, TWO, THREE]) == []
    assert kinds([ONE, TWO, THREE]) is None
    assert common([ONE, TWO]) == VERSIONS


@pytest.mark.parametrize("name", VERSIONS)
def test_the_machine_that_is_unlike_most_is_named(name: str) -> None:
    other = with_version(TWO, name, "1.2.3")
    assert differences([other, ONE, THREE]) == [
        f"10.0.0.2 has {name} 1.2.3 instead of {VERSIONS[name]}"
    ]


def test_a_missing_library_is_named_though_most_lack_it() -> None:
    lacking = [with_version(one, "tensorflow", "missing") for one in (ONE, TWO)]
    assert differences([*lacking, THREE]) == [
        "10.0.0.1 has no tensorflow",
        "10.0.0.2 has no tensorflow",
    ]


def test_a_machine_that_computes_nothing_needs_no_library() -> None:
    driver = Machine("desk", {"Python": "3.11", "ray": "2.55.1"})
    assert differences([ONE, TWO, driver]) == []
    assert differences([ONE, TWO, with_version(driver, "Python", "3.12")]) == [
        "desk has Python 3.12 instead of 3.11"
    ]


def test_kinds_of_processors_are_told_with_their_hosts() -> None:
    epyc = replace(THREE, processor="x86_64 EPYC")
    assert kinds([ONE, TWO, epyc]) == "x86_64 Xeon (10.0.0.1, 10.0.0.2); x86_64 EPYC (10.0.0.3)"
    many = [replace(ONE, host=f"10.0.0.{n}") for n in range(1, 6)]
    assert str(kinds([*many, replace(epyc, host="a")])).startswith(
        "x86_64 Xeon (10.0.0.1, 10.0.0.2, 10.0.0.3 and 2 more); "
    )


def test_one_model_with_other_instructions_is_another_kind() -> None:
    """As two hypervisors show it."""
    wide = replace(TWO, instructions=ONE.instructions | {"avx512f"})
    assert (
        kinds([ONE, wide]) == "x86_64 Xeon without (10.0.0.1); x86_64 Xeon with avx512f (10.0.0.2)"
    )


def test_gpus_of_other_kinds_are_told_but_not_their_absence() -> None:
    h100, a100 = (replace(ONE, host=k, accelerators=(k,)) for k in ("H100", "A100"))
    assert kinds([ONE, h100]) is None
    assert kinds([ONE, h100, a100]) == "H100 (H100); A100 (A100)"


def test_this_machine_has_what_is_installed() -> None:
    import numpy
    import ray

    here = this_machine("tensorflow", "here")
    assert here.host == "here"
    assert (here.versions["numpy"], here.versions["ray"]) == (numpy.__version__, ray.__version__)
    assert "missing" not in here.versions.values()
    assert set(this_machine("jax").versions) - set(here.versions) == {"jax", "jaxlib"}


def test_what_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machines.BACKENDS, "other", ("no_such_library",))
    assert this_machine("other").versions["no_such_library"] == "missing"


@pytest.mark.parametrize(
    ("text", "model", "instructions"),
    [
        (
            "processor\t: 0\nmodel name\t: Xeon\nflags\t: fpu sse4_2 avx2 fma\n\nmodel name: no\n",
            "Xeon",
            {"sse4_2", "avx2", "fma"},
        ),
        (
            "CPU implementer\t: 0x41\nCPU part\t: 0xd40\nFeatures\t: fp asimd sve\n",
            "0x41 0xd40",
            {"asimd", "sve"},
        ),
    ],
)
def test_a_processor_is_read_from_linux(
    text: str, model: str, instructions: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    named, flags = machines._processor(file)
    assert named.endswith(f" {model}") and flags == instructions


A, B = 56 * "a", 56 * "b"

NODES = [
    {"NodeID": name, "NodeManagerAddress": host, "Resources": {"CPU": cpus, **more}}
    for name, host, cpus, more in (
        (A, "10.0.0.1", 4.0, {}),
        (B, "10.0.0.2", 4.0, {"accelerator_type:H100": 1.0}),
        (56 * "f", "10.0.0.9", 0.0, {}),
    )
]


class Asked(Inspection):
    """An inspection whose hosts answer as they are told, or not at all."""

    def __init__(self, answers: dict[str, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("tensorflow", 1.0)
        nodes = iter(NODES[:2])

        def option(**given: Any) -> Any:
            return SimpleNamespace(remote=lambda library, host: next(nodes)["NodeID"])

        def wait(refs: Sequence[str], num_returns: int, timeout: float) -> tuple[list[str], None]:
            return [ref for ref in refs if ref in answers], None

        double = SimpleNamespace(
            remote=lambda function: SimpleNamespace(options=option),
            wait=wait,
            get=lambda ref, timeout: answers[ref],
        )
        monkeypatch.setattr(inspection, "ray", double)
        monkeypatch.setattr(inspection, "this_machine", lambda *_: Machine("this machine", {}))
        self.ask(NODES)


def test_only_hosts_that_hold_workers_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked({A: ONE, B: TWO}, monkeypatch)
    assert list(asked._asked) == [A, B]
    asked.check()
    assert asked.wanted == VERSIONS
    assert asked.remark() is None
    assert asked._machines[B].accelerators == ("H100",)


def test_a_host_with_another_version_ends_the_run_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked({A: ONE, B: with_version(TWO, "tensorflow", "2.20.0")}, monkeypatch)
    with pytest.raises(ResourceError) as failed:
        asked.check()
    assert str(failed.value) == (
        "resources.address must be that of a cluster whose hosts have the same versions, got one "
        "where 10.0.0.2 has tensorflow 2.20.0 instead of 2.21.0"
    )


def test_a_host_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked({A: ONE}, monkeypatch)
    asked.check(0.0)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "10.0.0.2 has not told its versions within 0 s"
    assert asked.wanted == VERSIONS


def test_processors_are_remarked_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked({A: ONE, B: replace(TWO, processor="x86_64 EPYC")}, monkeypatch)
    asked.check()
    assert asked.remark() == (
        "hosts with unlike processors may give other last bits: "
        "x86_64 Xeon (10.0.0.1); x86_64 EPYC (10.0.0.2)"
    )
    assert asked.remark() is None
