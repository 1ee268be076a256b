"""How TensorFlow is set up in a process that trains: quiet, deterministic, bounded."""

from __future__ import annotations

import logging
import os
import platform
import sys
from typing import Any

from simulation.training.process import memory_of_gpus

log = logging.getLogger("sunflower.runtime")

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
"""TensorFlow reads this when it is imported, and never again."""

X86 = ("x86_64", "AMD64")
"""Names of the machines on which oneDNN is turned on; elsewhere TensorFlow's default stays."""

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


def prepare_tensorflow(threads: int, gpus: float = 0.0) -> None:
    """Import TensorFlow and make it deterministic; once per process, before anything uses it."""
    late = "tensorflow" in sys.modules and ONEDNN not in os.environ
    if late and ONEDNN in worker_environment(threads, gpus):
        log.warning(
            "TensorFlow was imported before Sunflower could set it up: results may be rounded "
            "otherwise than on the engine ray; set %s=1 in the environment to have them alike",
            ONEDNN,
        )
    for name, value in worker_environment(threads, gpus).items():
        os.environ.setdefault(name, value)
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # TensorFlow is in use already (a notebook, a second run): its threads stay
    if gpus > 0:
        share_gpus(tf, gpus)
    tf.config.experimental.enable_op_determinism()


def share_gpus(tf: Any, gpus: float) -> None:
    """Limit this process to its share of every GPU that it sees; memory is taken as needed.

    Args:
        tf: TensorFlow.
        gpus: GPUs of a worker; below 1 it is the part of one that several workers share.
    """
    found = tf.config.list_physical_devices("GPU")
    sizes = memory_of_gpus() if gpus < 1 else []
    for place, device in enumerate(found):
        try:
            if place < len(sizes):
                # Growth is on by TF_FORCE_GPU_ALLOW_GROWTH: TensorFlow refuses to have it set
                # together with a limit.
                limit = memory_limit(sizes[place], gpus)
                part = tf.config.LogicalDeviceConfiguration(memory_limit=limit)
                tf.config.set_logical_device_configuration(device, [part])
            else:
                tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:
            return  # TensorFlow is in use already: its devices stay as they are


def memory_limit(size: int, share: float) -> int:
    """Return how many MiB a worker may take of a GPU.

    ::

        share * size - CONTEXT, at least half of share * size

    Args:
        size: of the GPU's memory, MiB.
        share: of the GPU, in (0, 1).
    """
    part = size * share
    return int(max(part - CONTEXT, part / 2))
