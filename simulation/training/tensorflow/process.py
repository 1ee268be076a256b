"""How TensorFlow is set up in a process that trains: quiet, deterministic, bounded."""

from __future__ import annotations

import os
import sys
from typing import Any

from simulation.training.process import CONTEXT, ONEDNN, log, memory_of_gpus, worker_environment


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
