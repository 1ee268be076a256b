"""The Ray actor: one process that trains chunks of clients, of one run or of several in turn."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError

from simulation.engines.calls import Call, Joint, Status, TrainGroups
from simulation.engines.policy import POLICY
from simulation.engines.ray.machines import this_machine, unlike
from simulation.engines.ray.pieces import Apart, ValueLate
from simulation.engines.ray.zipped import Zipped
from simulation.records.client_states import StateError

if TYPE_CHECKING:
    from simulation.datasets.dataset import Dataset
    from simulation.population.partition import AnyPartition
    from simulation.worker.setup import Setup


AnyCall = TypeVar("AnyCall", bound=Call)


class Unfit(RuntimeError):
    """This worker's host has other versions than the others, or lacks a library."""


@dataclass(frozen=True)
class Shared:
    """Stands for a value in Ray's object store that many calls take.

    Ray fetches what a call takes anew for each call, which keeps the worker waiting for some 2 ms:
    as a part of an argument it is left to the worker, which fetches it once.

    Args:
        ref: Ray's reference.
    """

    ref: ray.ObjectRef


class Worker:
    """Run calls of an :class:`~simulation.worker.executor.Executor` for each run, one at a time.

    Args:
        threads: of the backend.
        gpus: share of a GPU, 0 for none.
        paths: the driver's import path, so that the user's modules are found here too.
        executor: ``module:class`` of what does the work.
        library: the backend.
    """

    def __init__(
        self, threads: int, gpus: float, paths: Sequence[str], executor: str, library: str
    ) -> None:
        self._given = (threads, gpus, paths, executor, library)
        self._library, self._broken = library, Status(0.0, 0.0)
        self._executors: dict[int, Any] = {}
        self._fetched: deque[tuple[bytes, Any]] = deque(maxlen=POLICY.values_kept)
        self._patience = POLICY.fetch_least
        self._coming: dict[bytes, list[bytes]] = {}
        self._node = ray.get_runtime_context().get_node_id()

    def prepare(self) -> None:
        """Import what computes, before anything else is asked but where this worker is.

        What fails is told when a run is opened: Ray would tell of a worker that died.
        """
        try:
            self._prepare(*self._given)
        except ImportError as error:
            host = ray.util.get_node_ip_address()
            text = f"{self._library} cannot be imported on {host}: {type(error).__name__}: {error}"
            self._broken = _failed(0.0, Unfit(text))
        except Exception as error:
            self._broken = _failed(0.0, error)

    def _prepare(
        self, threads: int, gpus: float, paths: Sequence[str], executor: str, library: str
    ) -> None:
        sys.path.extend(p for p in paths if p not in sys.path)
        from simulation.config import plugins
        from simulation.training.backend import backend
        from simulation.training.process import keep_memory

        keep_memory()

        # Ray has set OMP_NUM_THREADS and CUDA_VISIBLE_DEVICES for this actor; ours hold for the
        # rest, and for a worker without GPU.
        for name, value in backend(library).environment(threads, gpus).items():
            if name != "CUDA_VISIBLE_DEVICES" or gpus == 0:
                os.environ[name] = value
        self._class: Any = plugins.find("executor", executor)
        self._class.prepare(threads, gpus, library)

    def open(
        self,
        pool_run: int,
        setup: Setup,
        data: Dataset,
        partition: AnyPartition,
        wanted: Mapping[str, str],
    ) -> Status:
        """Build a run's model and take its data (read from shared memory, not copied).

        Args:
            pool_run: the run's number.
            setup: what its executors are made of.
            data: its data.
            partition: which client has what of it.
            wanted: versions that the cluster's hosts have in common; empty: not known.
        """
        started = time.time()
        if self._broken.error is not None:
            return self._broken
        try:
            self._check_host(wanted)
            self._executors[pool_run] = self._class(setup, data, partition)
        except Exception as error:
            return _failed(started, error)
        return Status(started, time.time(), node=self._node)

    def _check_host(self, wanted: Mapping[str, str]) -> None:
        """Raise :class:`Unfit` where this host cannot do what others do, to the bit."""
        if not wanted:
            return
        here = this_machine(self._library, ray.util.get_node_ip_address())
        if (wrong := unlike(here, wanted)) is not None:
            raise Unfit(wrong)

    def leave(self, pool_run: int) -> None:
        """Forget a run."""
        self._executors.pop(pool_run, None)
        self._fetched.clear()

    def call(self, pool_run: int, call: Call, *inputs: Any) -> tuple[Status, Any, Any]:
        """Carry out a call of a run; return (status, value, what is told of states)."""
        started, kept = time.time(), None
        try:
            value = self._with_values(call).run(self._executors[pool_run], *inputs)
            if call.keeps_states:
                value, kept = value
            if call.zipped:
                value = Zipped.of(value)
        except (Exception, StateError) as error:
            return _failed(started, error), None, None
        return Status(started, time.time(), node=self._node), value, kept

    def call_together(self, joint: Joint) -> tuple[Any, ...]:
        """Carry out calls of several runs; return the status, then of each value and states."""
        from simulation.worker.together import Together

        started, count = time.time(), len(joint.calls)
        try:
            calls = [self._with_values(call) for _, call in joint.calls]
        except ValueLate as error:
            return (_failed(started, error), *[None] * (1 if joint.packed else 2 * count))
        executors = [self._executors[number] for number, _ in joint.calls]
        done = Together(executors).carry_out(
            [partial(call.run, executor) for call, executor in zip(calls, executors, strict=True)]
        )
        whole = Status(started, time.time(), node=self._node)
        each = [
            replace(whole.share(place, count), error=text, trace=trace)
            for place, (text, trace) in enumerate(_told(one.error) for one in done)
        ]
        status = replace(whole, each=tuple(each))
        values = [part for one in done for part in one.value or (None, None)]
        return (status, values) if joint.packed else (status, *values)

    def _with_values(self, call: AnyCall) -> AnyCall:
        """Return a call with what is shared in the place of what stands for it."""
        if isinstance(call, TrainGroups):
            return replace(call, groups=tuple(self._with_values(one) for one in call.groups))
        given = {field.name: getattr(call, field.name) for field in fields(call)}
        found = {name: self._fetch(v) for name, v in given.items() if isinstance(v, Shared)}
        return replace(call, **found) if found else call

    def _fetch(self, value: Shared) -> Any:
        """Return what is shared, from shared memory if it is not at hand."""
        key = value.ref.binary()
        found = [kept for name, kept in self._fetched if name == key]
        if not found:
            try:
                found = [ray.get(value.ref, timeout=self._patience)]
            except GetTimeoutError:
                self._patience *= 2  # A link may be that slow.
                raise ValueLate("a value has not come to this node in time") from None
            self._fetched.append((key, found[0]))
        return found[0]

    def keep(self, key: bytes, count: int, *pieces: bytes) -> None:
        """Take some pieces of a shared value, of which there are ``count``."""
        coming = self._coming.setdefault(key, [])
        coming += pieces
        if len(coming) == count:
            self._fetched.append((key, pickle.loads(b"".join(self._coming.pop(key)))))

    def take_apart(self, refs: Sequence[ray.ObjectRef]) -> int:
        """Cut a value of this node into pieces; return how many."""
        self._apart = Apart(ray.get(refs[0], timeout=POLICY.pull_first))
        return len(self._apart)

    def pieces(self, first: int, count: int) -> Any:
        """Return some pieces of what was cut last."""
        some = self._apart.some(first, count)
        return some if count > 1 else some[0]

    def where(self) -> tuple[str, int]:
        """Return the node's id and the process id."""
        return ray.get_runtime_context().get_node_id(), os.getpid()


def _failed(started: float, error: BaseException) -> Status:
    return Status(started, time.time(), *_told(error))


def _told(error: BaseException | None) -> tuple[str | None, str]:
    """Return what a status says of an error, and its traceback."""
    if error is None:
        return None, ""
    trace = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {error}", trace
