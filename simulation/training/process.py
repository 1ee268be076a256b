"""A process that trains, whatever the backend: the memory that it keeps, the GPUs that it sees."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt(3)."""

KEPT_ARRAY = 2**25
"""Arrays up to this size [bytes] are kept for reuse: the most that glibc allows."""

KEPT_FREE = 2**27
"""Free memory that a process keeps at most [bytes]."""


def keep_memory() -> None:
    """Let the C library keep what this process frees, for its next client or round.

    Deltas, partials and models are all as large as the model. glibc gives such memory back at
    once, and then every page of it is asked for again, which takes as long as the sums themselves.
    Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_ARRAY)
        mallopt(M_TRIM_THRESHOLD, KEPT_FREE)


def memory_of_gpus() -> list[int]:
    """Return the memory in MiB of the GPUs that this process may use; empty if nothing tells."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in row.split(",")] for row in asked.stdout.splitlines()]
    sizes = {name: int(size) for *names, size in rows for name in names}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = [row[0] for row in rows] if seen is None else [n.strip() for n in seen.split(",")]
    return [sizes[name] for name in chosen if name in sizes]
