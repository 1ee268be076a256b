"""What the hosts of a cluster have: versions that must be the same, processors that should be.

Ray itself refuses hosts with another Ray or Python. Of the libraries that compute it knows nothing:
with other versions, or on processors of another kind, the last bits of a client's update depend on
the host that trains it.
"""

from __future__ import annotations

import platform
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

NAMES: dict[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-macos"),
}
"""Distributions that a module comes in, where it is not the one of its own name."""

BACKENDS = {"tensorflow": ("tensorflow", "keras"), "jax": ("jax", "jaxlib", "keras")}
"""Modules that a backend needs."""

SIMD = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "fphp", "bf16", "i8mm")
"""What the names of those instructions begin with that computing libraries choose their code by."""

MISSING = "missing"


@dataclass(frozen=True)
class Machine:
    """What a host has.

    Args:
        host: its address or name.
        versions: of Python, Ray and the libraries, by name; "missing" where there is none.
        processor: its model, as the system calls it.
        instructions: those that libraries choose their code by.
        accelerators: kinds of its GPUs.
    """

    host: str
    versions: Mapping[str, str]
    processor: str = ""
    instructions: frozenset[str] = field(default_factory=frozenset)
    accelerators: tuple[str, ...] = ()


def this_machine(library: str, host: str = "") -> Machine:
    """Describe the machine that this process runs on; nothing is imported for it.

    Args:
        library: the backend.
        host: what to call it; its own name where nothing is given.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    modules = ("ray", "numpy", *BACKENDS.get(library, ()))
    versions = {"Python": python, **{module: version_of(module) for module in modules}}
    model, flags = _processor(Path("/proc/cpuinfo"))
    return Machine(host or socket.gethostname(), versions, model, flags)


def version_of(module: str) -> str:
    """Return a module's version by the distribution that it comes in."""
    for name in NAMES.get(module, (module,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return MISSING if find_spec(module) is None else "unknown"


def _processor(file: Path) -> tuple[str, frozenset[str]]:
    """Return a processor's model and its SIMD instructions, as Linux tells them."""
    lines = file.read_text().splitlines() if file.exists() else []
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    parts = ("CPU implementer", "CPU part")  # ARM has numbers for a name.
    model = told.get("model name") or " ".join(told[part] for part in parts if part in told)
    flags = (told.get("flags") or told.get("Features") or "").split()
    named = f"{platform.machine()} {model or platform.processor()}".strip()
    return named, frozenset(flag for flag in flags if flag.startswith(SIMD))


def common(machines: Sequence[Machine]) -> dict[str, str]:
    """Return the versions that most machines have; of as many, those of the first machine."""
    names = dict.fromkeys(name for machine in machines for name in machine.versions)
    found = {}
    for name in names:
        counts = Counter(m.versions[name] for m in machines if name in m.versions)
        counts.pop(MISSING, None)
        if counts:
            found[name] = counts.most_common(1)[0][0]
    return found


def unlike(machine: Machine, wanted: Mapping[str, str]) -> str | None:
    """Return how a machine's versions differ from those wanted; None where none does."""
    wrong = []
    for name, version in machine.versions.items():
        if version == MISSING:
            wrong.append(f"no {name}")
        elif version != wanted.get(name, version):
            wrong.append(f"{name} {version} instead of {wanted[name]}")
    return f"{machine.host} has {', '.join(wrong)}" if wrong else None


def differences(machines: Sequence[Machine]) -> list[str]:
    """Return a part of a sentence for each machine that has other versions than most."""
    wanted = common(machines)
    found = [unlike(machine, wanted) for machine in sorted(machines, key=lambda m: m.host)]
    return [text for text in found if text is not None]


def kinds(machines: Sequence[Machine]) -> str | None:
    """Return which kinds of processors and GPUs there are; None where there is one of each."""
    texts = []
    for one in ("processor", "accelerators"):
        hosts: dict[tuple[object, ...], list[str]] = {}
        for machine in machines:
            accelerators = ", ".join(machine.accelerators)
            if one == "processor":
                key: tuple[object, ...] = (machine.processor, machine.instructions)
            elif accelerators:
                key = (accelerators,)
            else:
                continue  # A machine without GPUs is unlike those with some on purpose.
            hosts.setdefault(key, []).append(machine.host)
        if len(hosts) > 1:
            texts.append("; ".join(_kind(key, hosts) for key in hosts))
    return "; ".join(texts) or None


def _kind(key: tuple[object, ...], hosts: Mapping[tuple[object, ...], Sequence[str]]) -> str:
    named = sorted(hosts[key])
    shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    text = str(key[0]) or "of a kind that is not known"
    alike = [other for other in hosts if other[0] == key[0]]
    if len(alike) > 1:  # The same model, as a virtual machine shows it, with other instructions.
        every = set.intersection(*(set(other[1]) for other in alike))  # type: ignore[call-overload]
        own = sorted(set(key[1]) - every)  # type: ignore[call-overload]
        text += f" with {' '.join(own)}" if own else " without"
    return f"{text} ({shown})"
