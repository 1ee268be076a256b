"""Records that are written some seconds later: the end, whenever it comes."""

from __future__ import annotations

import threading
from typing import Any

from typing_extensions import override

from simulation.records.delayed import DelayedWriter


class Late(threading.Event):
    """A wait that has just run out when the event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    @override
    def wait(self, timeout: float | None = None) -> bool:
        self.begun.set()
        super().wait()
        return False


def test_an_end_that_comes_as_records_are_about_to_be_written(monkeypatch: Any) -> None:
    """The writer, which did not see it in time, must see it before it waits for more."""
    written: list[int] = []
    writer, closed = DelayedWriter(lambda: written.append(1), 0.01), Late()
    monkeypatch.setattr(writer, "_closed", closed)
    writer.there_is_more()
    assert closed.begun.wait(5)
    closer = threading.Thread(target=writer.close, daemon=True)
    closer.start()
    closer.join(5)
    assert not closer.is_alive()
    assert written == [1, 1]  # by the thread, and at the end
