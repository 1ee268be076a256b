"""Quiet while Ray is imported or started."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_remarks() -> Iterator[None]:
    """Keep what Ray and tqdm say about missing notebook widgets, as they are imported, to oneself.

    Nothing here needs those widgets.
    """
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.INFO))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")
            yield
    finally:
        logging.disable(disabled)
