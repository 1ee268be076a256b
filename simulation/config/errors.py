"""What is wrong with what a user has given."""

from __future__ import annotations


class ConfigError(ValueError):
    """A bad experiment. The text has one line per problem: field, rule, value received."""


class RunError(ValueError):
    """A run folder that cannot be used as asked."""


def one_line(error: BaseException) -> str:
    """Return an error's kind and text, however many lines it has."""
    return " ".join(f"{type(error).__name__}: {error}".split())
