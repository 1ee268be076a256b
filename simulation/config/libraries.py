"""Where a library's private names are used: what is said when a release no longer has them.

Each ``private.py`` gathers what is used of one library beyond its public interface, as small
functions that look a name up. A name that is gone ends in one line that says what it was for and
which releases have it, instead of in a run that goes on without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")


class LibraryError(RuntimeError):
    """A release of a library lacks what is used of it beyond its public interface."""


@dataclass(frozen=True)
class Library:
    """A library some of whose private names are used.

    Args:
        name: as its users call it.
        package: the distribution that is installed.
        seen: the releases in which all names were found.
    """

    name: str
    package: str
    seen: str

    def lacks(self, names: str, use: str, reason: object) -> LibraryError:
        """Return the error for private names that are gone.

        Args:
            names: which ones.
            use: what they are needed for: "to ...".
            reason: what Python says of it.
        """
        return LibraryError(
            f"{self.name} {version(self.package)} no longer has {names}, which Sunflower needs "
            f"{use} ({reason}); it was there in {self.name} {self.seen}"
        )

    def uses(
        self, names: str, use: str
    ) -> Callable[[Callable[Arguments, Found]], Callable[Arguments, Found]]:
        """Let a function that does nothing but look names up raise LibraryError without them."""

        def decorate(look_up: Callable[Arguments, Found]) -> Callable[Arguments, Found]:
            @functools.wraps(look_up)
            def found(*args: Arguments.args, **options: Arguments.kwargs) -> Found:
                try:
                    return look_up(*args, **options)
                except (AttributeError, ImportError) as error:
                    raise self.lacks(names, use, error) from error

            return found

        return decorate
