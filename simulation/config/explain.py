"""Errors of the configuration in plain words: one line per problem."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from strategies import checks

RULES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "finite",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "too_short": "of {min_length} or more entries",
}
"""What a field must be, by Pydantic's kind of error."""


def explain(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    """Yield one line per problem: the field, the rule and the value received."""
    for item in error.errors():
        # A union's branch is part of Pydantic's location, but no key of the user's.
        place = [str(p) for p in item["loc"] if not str(p).startswith(("constrained", "function"))]
        field, kind = ".".join(place), item["type"]
        context, value = item.get("ctx", {}), item["input"]
        if kind == "extra_forbidden":
            yield f"{field}: unknown key; {_nearest_key(root, place)}"
        elif kind == "literal_error":
            names = [n.strip(" '") for n in context["expected"].replace(" or ", ", ").split(",")]
            try:
                checks.one_of(field, value, names)
            except ValueError as reason:
                yield str(reason)
        elif kind == "value_error":
            text = item["msg"].removeprefix("Value error, ")
            if text.startswith("must ") and field:
                yield f"{field} {text}, got {value!r}"
            else:
                yield text if not field or text.startswith(field) else f"{field}: {text}"
        elif kind in RULES:
            yield f"{field} must be {RULES[kind].format(**context)}, got {value!r}"
        else:
            yield f"{field}: {item['msg']}, got {value!r}"


def _nearest_key(root: type[BaseModel], place: list[str]) -> str:
    """Return a hint: the key that was meant, in the same table or in another."""
    path, wrong = place[:-1], place[-1].replace("-", "_")
    here = _keys(_section(root, path))
    near = difflib.get_close_matches(wrong, here, n=1)
    if near:
        return f"did you mean {'.'.join([*path, near[0]])!r}?"
    for table in ["", *_tables(root)]:
        keys = _keys(_section(root, [table] if table else []))
        if wrong in keys:
            return f"did you mean {f'{table}.{wrong}'.strip('.')!r}?"
    return f"known keys: {', '.join(here)}"


def _keys(model: Any) -> list[str]:
    return list(getattr(model, "model_fields", {}))


def _tables(root: type[BaseModel]) -> list[str]:
    return [name for name in root.model_fields if _section(root, [name]) is not None]


def _section(root: Any, path: Iterable[str]) -> Any:
    """Return the model that describes the table at ``path``; None if there is none."""
    for name in path:
        found = getattr(root, "model_fields", {}).get(name)
        options = [] if found is None else [found.annotation, *get_args(found.annotation)]
        root = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
    return root
