"""Functions of the user's own, named ``module:function`` in a configuration."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


def resolve(field: str, reference: str) -> Callable[..., Any]:
    """Return the function that ``reference`` (``package.module:function``) names.

    As :func:`find`, but raises ValueError too if what is found is not callable.
    """
    function = find(field, reference)
    if not callable(function):
        raise ValueError(
            f"{field} must name a function, got {reference!r} "
            f"({reference.partition(':')[2]} is not callable)"
        )
    found: Callable[..., Any] = function
    return found


def find(field: str, reference: str) -> Any:
    """Return the object that ``reference`` (``package.module:name``) names.

    The folder that the command was started in is searched first, as ``python -m`` would.

    Args:
        field: the option that holds the reference, for the messages.
        reference: module and function, with one colon between them.

    Raises:
        ValueError: if it is not of that form, the module does not import, or the function is
            missing.
    """
    module_name, colon, name = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), name]):
        raise ValueError(f"{field} must be module:function, got {reference!r}")
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module of the user's may raise anything while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{field} must name a module that imports, got {reference!r} ({reason})"
        ) from error
    finally:
        # Last from now on: what the function itself imports is still found there, but a
        # folder of the user's named like an installed package hides it no longer.
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
    if not hasattr(module, name):
        raise ValueError(
            f"{field} must name a function, got {reference!r} ({name} is not in {module_name})"
        )
    return getattr(module, name)
