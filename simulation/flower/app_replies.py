"""The replies of a Flower app's clients on disk, by which an app goes on after an interruption.

An app's server is a program of its own: nothing but running it again brings it back to where it
was. So every reply is kept with what was asked, and ``--resume`` runs the server again from its
start: what it has asked before is answered from disk, and clients train from the first new question
on. Weights come out with the same bits, if only the server asks the same again; whether it does is
checked by a digest of every message.

A file holds a round's replies: for each a line of JSON, then Flower's own serialisation of the
reply and of the client's state. There is no pickle in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from simulation.flower import private

log = logging.getLogger("sunflower.app")

SHARE_OF_DISK, MOST_BYTES = 0.25, 20 * 2**30
"""What replies may take of the room on the disk at the start, and bytes at most."""

REMEMBERED = 4096
"""Arrays whose digests are remembered: a round's messages carry the same ones."""

Key = tuple[int, str, str]
"""A message: whom it asks, of what type, and the digest of its content."""


class Diverged(RuntimeError):
    """The server of an app that is run again asks for something else than before."""


@dataclass(frozen=True)
class Kept:
    """Where a reply is."""

    file: Path
    start: int
    head: dict[str, Any]

    def read(self, request: Message) -> tuple[Message, RecordDict | None]:
        """Return the reply to a message, and the client's state after it."""
        with open(self.file, "rb") as file:
            file.seek(self.start)
            body = file.read(self.head["reply"] + self.head["state"])
        state = from_bytes(body[self.head["reply"] :]) if self.head["state"] else None
        if self.head["error"] is not None:
            code, reason = self.head["error"]
            return Message(Error(code, reason), reply_to=request), state
        return Message(from_bytes(body[: self.head["reply"]]), reply_to=request), state


class Replies:
    """Replies in a folder: those of before, and new ones.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        free = int(SHARE_OF_DISK * shutil.disk_usage(folder).free)
        self.room = min(MOST_BYTES, free)  # bytes that they may still take
        self._kept: dict[Key, deque[Kept]] = {}
        self._left: Counter[int] = Counter()
        self._file: tuple[int, BinaryIO] | None = None
        self._digests: dict[int, tuple[bytes, str]] = {}
        self.full = False
        for file in sorted(folder.glob("round-*.replies")):
            for kept in read_file(file):
                head = kept.head
                key = (head["client"], head["type"], head["digest"])
                self._kept.setdefault(key, deque()).append(kept)
                self._left[head["round"]] += 1
                self.room -= head["reply"] + head["state"]

    @property
    def left(self) -> int:
        """How many replies of before have not been asked for again."""
        return self._left.total()

    def digest(self, content: RecordDict) -> str:
        """Return what stands for a message's content."""
        whole = hashlib.sha256()
        for name, record in sorted(content.items()):
            whole.update(f"{type(record).__name__} {name}\n".encode())
            if isinstance(record, ArrayRecord):
                for key, array in record.items():
                    text = f"{key} {array.dtype} {array.shape} {array.stype} {self._hash(array)}\n"
                    whole.update(text.encode())
            else:
                whole.update(f"{sorted(record.items())!r}\n".encode())
        return whole.hexdigest()

    def _hash(self, array: Array) -> str:
        found = self._digests.get(id(array.data))
        if found is None:
            found = (array.data, hashlib.sha256(array.data).hexdigest())
            if len(self._digests) >= REMEMBERED:
                self._digests.clear()
            self._digests[id(array.data)] = found  # which keeps the bytes, and so their id, alive
        return found[1]

    def again(self, round: int, message: Message, digest: str) -> Kept | None:
        """Return where the reply to a message is; None when nobody has asked for it before.

        Raises:
            Diverged: the server has left out what it asked before.
        """
        key = (message.metadata.dst_node_id, message.metadata.message_type, digest)
        there = self._kept.get(key)
        if there:
            kept = there.popleft()
            self._left[kept.head["round"]] -= 1
            return kept
        self._left = +self._left
        if (self._left and min(self._left) < round) or self._asked_otherwise(round, *key[:2]):
            raise Diverged(
                f"round {round}: the app asks client {key[0]} for something else than before "
                f"({key[1]}): what its server draws at random must come from a seed of its own"
            )
        return None

    def _asked_otherwise(self, round: int, client: int, kind: str) -> bool:
        """Tell whether a client was asked for the same kind of work in this round, differently."""
        return any(
            there and (key[0], key[1], there[0].head["round"]) == (client, kind, round)
            for key, there in self._kept.items()
        )

    def add(
        self, round: int, request: Message, digest: str, reply: Message, state: RecordDict | None
    ) -> None:
        """Keep a reply; once there is no more room, none any longer."""
        if self.full:
            return
        content = b"" if reply.has_error() else to_bytes(reply.content)
        after = b"" if state is None else to_bytes(state)
        self.room -= len(content) + len(after)
        if self.room < 0:
            self._stop(round, "they need too much disk space")
            return
        head = {
            "client": request.metadata.dst_node_id,
            "type": request.metadata.message_type,
            "digest": digest,
            "round": round,
            "reply": len(content),
            "state": len(after),
            "error": [reply.error.code, reply.error.reason] if reply.has_error() else None,
            "crc": zlib.crc32(after, zlib.crc32(content)),
        }
        try:
            file = self._open(round)
            file.write(json.dumps(head).encode() + b"\n" + content + after)
            file.flush()
        except OSError as error:
            self._stop(round, error.strerror or str(error))

    def _stop(self, round: int, reason: str) -> None:
        """Keep no more replies: what there is stays the beginning of the run."""
        self.full = True
        self.close()
        log.warning(
            "replies are kept no longer (%s): --resume goes on after round %d", reason, round - 1
        )

    def _open(self, round: int) -> BinaryIO:
        if self._file is None or self._file[0] != round:
            self.close()
            path = self.folder / f"round-{round:06d}.replies"
            self._file = round, open(path, "ab")  # noqa: SIM115 - closed with the next round
        return self._file[1]

    def close(self) -> None:
        """Close the file of the round."""
        if self._file is not None:
            with suppress(OSError):
                self._file[1].close()
            self._file = None

    def remove(self) -> None:
        """Take all replies away."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # the checkpoint's folder, if nothing else is in it
            self.folder.parent.rmdir()


def read_file(path: Path) -> Iterator[Kept]:
    """Yield the replies in a file; what a crash has left half written is cut off."""
    whole = 0
    with open(path, "rb") as file:
        while line := file.readline():
            try:
                head = json.loads(line)
                start = file.tell()
                body = file.read(head["reply"] + head["state"])
            except (ValueError, KeyError, TypeError):
                break
            if len(body) != head["reply"] + head["state"] or zlib.crc32(body) != head["crc"]:
                break
            whole = file.tell()
            yield Kept(path, start, head)
    if whole < path.stat().st_size:
        with open(path, "r+b") as file:
            file.truncate(whole)


def to_bytes(content: RecordDict) -> bytes:
    """Return a record dictionary as Flower sends it."""
    to_wire, _, _ = private.wire_format()
    return bytes(to_wire(content).SerializeToString())


def from_bytes(data: bytes) -> RecordDict:
    """Return the record dictionary that :func:`to_bytes` was given."""
    _, from_wire, kind = private.wire_format()
    wire = kind()
    wire.ParseFromString(data)
    return from_wire(wire)
