"""How TensorFlow is set up in a process that trains: quiet, deterministic, bounded."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
import subprocess

log = logging.getLogger("sunflower.runtime")


ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""TensorFlow reads this when it is imported, and never again."""


X86 = ("x86_64", "AMD64")
"""Names of the machines on which oneDNN is turned on; elsewhere TensorFlow's default stays."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's mallopt(3)."""


KEPT_ARRAY = 2**25
"""Arrays up to this size [bytes] are kept for reuse: the most that glibc allows."""


KEPT = 2**27
"""Free memory that a worker keeps at most [bytes]."""


CONTEXT = 600
"""MiB of a GPU that CUDA takes for each process, besides what TensorFlow allocates."""


def worker_environment(threads: int, gpus: float) -> dict[str, str]:
    """Return the environment of a training process.

    TensorFlow reads these when it is imported: threads as many as the worker holds CPUs (one
    single-threaded worker per core beats one many-threaded process), GPU memory taken as needed
    and never all at once, no log lines. oneDNN is on for processors where TensorFlow leaves it off
    (x86 without AVX-512 VNNI), unless the environment says otherwise: with it the CNN's steps at
    batches of 32 take 0.6 of their time on AMD Zen 3. Its kernels are kept from call to call;
    TensorFlow's default is to prepare them anew each time, which takes 6% of the CNN's time at
    batches of 32 and 14% at batches of 6.
    """
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_DETERMINISTIC_OPS": "1",
        "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "false",
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "KERAS_BACKEND": "tensorflow",
    }
    if ONEDNN in os.environ or platform.machine() in X86:
        environment[ONEDNN] = os.environ.get(ONEDNN, "1")
    if gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return environment


def keep_memory() -> None:
    """Let the C library keep what this process frees, for its next client.

    Deltas and partials are as large as the model. glibc gives such memory back at once, and then
    every page of it is asked for again, which takes as long as the sums themselves. Other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_ARRAY)
        mallopt(M_TRIM_THRESHOLD, KEPT)


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
