"""How TensorFlow is set up in a process that trains: quiet, deterministic, bounded."""

from __future__ import annotations

import os


def worker_environment(threads: int, gpus: float) -> dict[str, str]:
    """Return the environment of a training process.

    TensorFlow reads these when it is imported: threads as many as the worker holds CPUs (one
    single-threaded worker per core beats one many-threaded process), GPU memory taken as needed
    and never all at once, no log lines.
    """
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_DETERMINISTIC_OPS": "1",
        "OMP_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "KERAS_BACKEND": "tensorflow",
    }
    if gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return environment


def prepare_tensorflow(threads: int, gpus: float = 0.0) -> None:
    """Import TensorFlow and make it deterministic; once per process, before anything uses it."""
    for name, value in worker_environment(threads, gpus).items():
        os.environ.setdefault(name, value)
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # TensorFlow is in use already (a notebook, a second run): its threads stay
    tf.config.experimental.enable_op_determinism()
