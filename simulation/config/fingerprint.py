"""What a function is made of, as a short text: the same in every process, another if it does else.

A function of a script or a notebook has no module that could be imported again. Its fingerprint
stands for it in the name and so in the digest of the experiment.
"""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

LENGTH = 12
"""Hexadecimal digits of a fingerprint."""

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))

BY_THE_WAY = (
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__",
    "__static_attributes__", "__annotations__", "__annotate_func__", "__abstractmethods__",
    "_abc_impl",
)  # fmt: skip
"""Members of a class that change nothing of what it does."""


def fingerprint(function: Any) -> str:
    """Return hexadecimal digits that stand for a function's content.

    Its byte code counts, and so do its defaults, the variables around it, and what it uses of its
    module: other functions and classes of a script, numbers, text, containers and arrays. What can
    be imported counts by its name, any other object by its type. Another version of Python makes
    other byte code.
    """
    text = _described(function)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def is_importable(value: Any) -> bool:
    """Tell whether a function or class is found under its name in a module that can be imported."""
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    home = sys.modules.get(str(module))
    if module == "__main__" or not isinstance(name, str) or not name.isidentifier():
        return False
    return getattr(home, "__spec__", None) is not None and getattr(home, name, None) is value


def modules_used(function: Any) -> list[str]:
    """Return the modules that a function of a script needs: what it finds in its globals."""
    whole = function.func if isinstance(function, partial) else function
    if not isinstance(whole, FunctionType):
        whole = vars(type(whole)).get("__call__")
    names = []
    for value in _used(whole).values() if isinstance(whole, FunctionType) else ():
        name = value.__name__ if isinstance(value, ModuleType) else None
        name = name or getattr(value, "__module__", None) or type(value).__module__
        names.append(name)
        if isinstance(value, FunctionType) and value is not whole and name == "__main__":
            names += modules_used(value)
    return names


def _used(function: FunctionType) -> dict[str, Any]:
    """Return what a function takes from its module, by name."""
    names = sorted(set(_global_names(function.__code__)))
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def _global_names(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _described(value: Any, within: tuple[int, ...] = ()) -> str:
    """Return a text that is equal for what is made alike.

    Args:
        value: what to describe.
        within: identities of what it is a part of, so that a circle has an end.
    """
    if isinstance(value, PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, ModuleType):
        return f"module {value.__name__}"
    if is_importable(value):
        return f"name {value.__module__}:{value.__qualname__}"
    if id(value) in within:
        return f"circle {within.index(id(value))}"
    inner = [_described(part, (*within, id(value))) for part in _parts(value)]
    return f"{type(value).__name__}({', '.join(inner)})"


def _parts(value: Any) -> list[Any]:
    """Return what a value is made of, in an order of its own."""
    if isinstance(value, CodeType):
        shape = (value.co_argcount, value.co_kwonlyargcount, value.co_posonlyargcount)
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        return [*shape, value.co_flags, value.co_code, *names, value.co_consts]
    if isinstance(value, FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        used = {k: v for k, v in _used(value).items() if v is not value}
        return [value.__code__, value.__defaults__, value.__kwdefaults__, cells, used]
    if isinstance(value, type):
        own = {k: v for k, v in vars(value).items() if k not in BY_THE_WAY}
        return [value.__qualname__, list(value.__bases__), own]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return [part for key in sorted(value, key=repr) for part in (key, value[key])]
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        data = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return [str(value.dtype), value.shape, data]
    if isinstance(value, np.generic):
        return [str(value.dtype), repr(value.item())]
    return [f"{type(value).__module__}.{type(value).__qualname__}", *_state(value)]


def _state(value: Any) -> list[Any]:
    """Return what counts of an object: its class, where that is none to import, and its fields."""
    if is_importable(type(value)):
        return []
    return [type(value), getattr(value, "__dict__", {})]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
