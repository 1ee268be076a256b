"""A server rule's state: named fields where a rule uses it, a flat mapping where it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from strategies.protocols import State


class ServerState(Mapping[str, Any]):
    """The state of one server rule; a subclass is a frozen dataclass (``eq=False``: arrays).

    As a mapping it is what a checkpoint holds: vectors and numbers by flat names. A rule takes its
    state back from there, and from a rule that wraps it and keeps a plain mapping, by :meth:`of`.

    Law: ``Kind.of(dict(state))`` has the fields of ``state``.
    """

    saved_as: ClassVar[Mapping[str, str]] = {}
    """Flat names of the fields that have other names in a checkpoint."""

    @classmethod
    def of(cls, state: State) -> Self:
        """Return ``state`` with named fields; what other rules keep beside them is left out.

        Raises:
            ValueError: if it lacks one of them.
        """
        return state if isinstance(state, cls) else cls(**cls._own(state))

    @classmethod
    def _names(cls) -> dict[str, str]:
        """Return the flat names by field."""
        return {f.name: cls.saved_as.get(f.name, f.name) for f in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def _own(cls, state: State) -> dict[str, Any]:
        names = cls._names()
        if not state.keys() >= set(names.values()):
            raise ValueError(
                f"server state must hold {', '.join(names.values())} for {cls.__name__}, "
                f"got {', '.join(state) or 'nothing'}"
            )
        return {field: state[name] for field, name in names.items()}

    def _flat(self) -> dict[str, Any]:
        return {name: vars(self)[field] for field, name in self._names().items()}

    def __getitem__(self, name: str) -> Any:
        return self._flat()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flat())

    def __len__(self) -> int:
        return len(self._flat())


@dataclass(frozen=True, eq=False)
class WrapperState(ServerState):
    """The state of a rule that wraps another one: in a checkpoint both lie side by side.

    Args:
        server: the state of the rule inside.
    """

    server: State

    @classmethod
    def of(cls, state: State) -> Self:
        """Return ``state`` with named fields; what is not this rule's is that of the rule inside.

        Raises:
            ValueError: if it lacks one of them.
        """
        if isinstance(state, cls):
            return state
        names = cls._names().values()
        inside = {name: value for name, value in state.items() if name not in names}
        return cls(server=inside, **cls._own(state))

    @classmethod
    def _names(cls) -> dict[str, str]:
        names = super()._names()
        del names["server"]
        return names

    def _flat(self) -> dict[str, Any]:
        return {**self.server, **super()._flat()}
