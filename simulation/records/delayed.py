"""Records that are written some seconds later, many at a time, beside the rounds that go on."""

from __future__ import annotations

import threading
from collections.abc import Callable

SECONDS = 2.0
"""How long a record waits for others to be written with it."""


class DelayedWriter:
    """Call ``write`` in a thread some seconds after there is something to write.

    What could not be written stays where it is, and is tried again at the end; the error is raised
    in the thread of the rounds, at the next :meth:`there_is_more` or :meth:`flush`.

    Args:
        write: writes all that waits; never called twice at the same time.
        seconds: between two calls.
    """

    def __init__(self, write: Callable[[], None], seconds: float = SECONDS) -> None:
        self._write, self._seconds = write, seconds
        self._writing = threading.Lock()
        self._waiting, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def there_is_more(self) -> None:
        """Say that something waits.

        Raises:
            OSError: if what waited before could not be written.
        """
        if self._error is not None:
            raise self._error
        if self._thread is None:
            self._closed.clear()
            self._thread = threading.Thread(
                target=self._work, name="sunflower-records", daemon=True
            )
            self._thread.start()
        if not self._waiting.is_set():  # Else what waits has not been looked at yet.
            self._waiting.set()

    def flush(self) -> None:
        """Write all that waits, and return when that is done.

        Raises:
            OSError: if it cannot be written.
        """
        with self._writing:
            self._waiting.clear()
            self._error = None
            self._write()

    def close(self) -> None:
        """End the thread, and write what waits.

        Raises:
            OSError: if it cannot be written.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._closed.set()
            self._waiting.set()
            thread.join()
        self.flush()

    def _work(self) -> None:
        # To close it may have been asked while flush forgot that something waits.
        while self._error is None and not self._closed.is_set():
            self._waiting.wait()
            if self._closed.wait(self._seconds):
                return
            try:
                self.flush()
            except OSError as error:
                self._error = error
