"""What is wrong with what a user has given."""

from __future__ import annotations

from simulation.config.explain import explain as explain


class ConfigError(ValueError):
    """A bad experiment. The text has one line per problem: field, rule, value received."""


class RunError(ValueError):
    """A run folder that cannot be used as asked."""
