"""Contracts with libraries: tests that end in one text which says what a release has changed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from simulation.config.libraries import Library

SIMULATION = Path(__file__).parents[2] / "simulation"

Test = Callable[..., None]


def library_of(module: ModuleType) -> Library:
    """Return the library whose private names a module gathers."""
    (found,) = [value for value in vars(module).values() if isinstance(value, Library)]
    return found


def entries(module: ModuleType) -> set[str]:
    """Return what a ``private.py`` offers: its functions, and constants that say something."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            (callable(value) and getattr(value, "__module__", None) == module.__name__)
            or (name.isupper() and isinstance(value, int | str | tuple | dict))
        )
        and not isinstance(value, bool)
    }


def users(module: ModuleType, entry: str) -> list[str]:
    """Return the files that import a ``private.py`` and name an entry of it."""
    package, whole = re.escape(str(module.__package__)), re.escape(module.__name__)
    imported = re.compile(rf"from {package} import [^\n]*\bprivate\b|from {whole} import ")
    word = re.compile(rf"\b{entry}\b")
    texts = {path: path.read_text() for path in SIMULATION.rglob("*.py")}
    there = [path for path, text in texts.items() if imported.search(text) and word.search(text)]
    return [path.relative_to(SIMULATION.parent).as_posix() for path in there]


def contract(module: ModuleType, entries: str, names: str) -> Callable[[Test], Test]:
    """Let a test of entries fail with a text that a stranger understands.

    Args:
        module: the ``private.py``.
        entries: its functions or constants, with spaces between them.
        names: the library's own names, on which it rests.
    """

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(*args: Any, **options: Any) -> None:
            try:
                test(*args, **options)
            except Exception as error:
                library = library_of(module)
                depends = {path for entry in entries.split() for path in users(module, entry)}
                pytest.fail(
                    f"{library.name} {version(library.package)}: {names} is not what it was in "
                    f"{library.name} {library.seen} ({type(error).__name__}: {error}). On it rests "
                    f"{entries} in {module.__name__}, and on that {', '.join(sorted(depends))}.",
                    pytrace=False,
                )

        run.__dict__["contracts"] = {(module.__name__, entry) for entry in entries.split()}
        return run

    return decorate
