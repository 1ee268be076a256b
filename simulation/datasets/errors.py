"""Data that cannot be had, or that is damaged."""

from __future__ import annotations


class DataError(ValueError):
    """A dataset that cannot be had, or does not keep the rules. The text says what to do."""


class Missing(DataError):
    """A source that does not have the files."""


class Damaged(DataError):
    """A source whose files are not the dataset's."""
