"""Experiments and numbers as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe(record: Mapping[str, Any], rounds: int, cohort: int | None = None) -> str:
    """Return a round's record as a line of text.

    Args:
        record: a line of ``rounds.jsonl``.
        rounds: how many the run has.
        cohort: clients that train in a round; the line tells where there were others.
    """
    width = len(str(rounds))
    parts = [f"round {record['round']:>{width}}/{rounds}"]
    for key, name in (
        ("server_accuracy", "accuracy"),
        ("server_loss", "loss"),
        ("client_accuracy", "on clients"),
        ("train_loss", "training loss"),
    ):
        if record[key] is not None:
            text = f"{record[key]:.1%}" if key.endswith("accuracy") else f"{record[key]:.4f}"
            measured = record.get("clients_evaluated")
            if key == "client_accuracy" and measured not in (None, record.get("clients")):
                name = f"on {count(measured, 'client')}"
            parts.append(f"{name} {text}")
    if cohort is not None and record.get("clients") not in (None, cohort):
        parts.append(f"{count(record['clients'], 'client')} trained")
    if record["seconds"]:
        parts.append(f"{record['seconds']:.1f} s")
    return "  ".join(parts)


def count(number: int, noun: str) -> str:
    """Return a number of things as text."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _some(number: int | None) -> str | None:
    return f"{number:,}" if number else None


def percent(value: float | None) -> str | None:
    """Return a share as text; None where nothing was measured."""
    return None if value is None else f"{value:.2%}"


def decimal(value: float | None) -> str | None:
    """Return a loss as text; None where nothing was measured."""
    return None if value is None else f"{value:.4f}"
