"""The backend ``jax``: Keras models, clients side by side in one compiled program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from simulation.datasets import cache
from simulation.training.backend import ModelError

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment
    from simulation.datasets.dataset import Dataset
    from simulation.training.backend import Asked, Outcome, Trainer
    from strategies.client_rule import ClientRule

FLAGS = "XLA_FLAGS"

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
"""No sums whose order is a matter of timing, and no choice of kernels by timing them."""

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
"""No threads for single operations, where a worker has one processor."""

PROGRAMS = "JAX_COMPILATION_CACHE_DIR"
"""Where JAX keeps compiled programs from process to process."""


def environment(threads: int, gpus: float) -> dict[str, str]:
    """Return the environment of a training process.

    JAX reads these when it is imported: threads as many as the worker holds CPUs, GPU memory taken
    as needed and, of a shared GPU, no more than the worker's share, compiled programs kept on disk.
    """
    found = {
        "KERAS_BACKEND": "jax",
        "OMP_NUM_THREADS": str(threads),
        "NPROC": str(threads),  # the threads of XLA's programs on processors
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        PROGRAMS: os.environ.get(PROGRAMS, str(cache.cache_dir() / "programs")),
    }
    if gpus == 0:
        found |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    elif gpus < 1:
        found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{gpus:.3f}"
    flags = os.environ.get(FLAGS, "").split()
    given = {flag.partition("=")[0] for flag in flags}
    ours = [DETERMINISTIC] if gpus else []
    ours += [ONE_THREAD] if threads == 1 else []
    flags += [flag for flag in ours if flag.partition("=")[0] not in given]
    if flags:
        found[FLAGS] = " ".join(flags)
    return found


def prepare(threads: int, gpus: float) -> None:
    """Make this process ready: import Keras on JAX; once per process, before anything uses it.

    Raises:
        ModelError: where Keras has been imported on another backend, or JAX is not installed.
    """
    if "keras" in sys.modules:
        _check_keras()
    for name, value in environment(threads, gpus).items():
        if name == FLAGS:  # Those that are set already are among them.
            os.environ[name] = value
        os.environ.setdefault(name, value)
    os.environ["KERAS_BACKEND"] = "jax"
    try:
        import jax
    except ImportError as error:
        raise ModelError(
            f"backend jax needs JAX, which is not installed ({error}): pip install "
            "'sunflower-fl[jax]' (processors) or 'sunflower-fl[gpu]' (CUDA)"
        ) from error
    jax.config.update("jax_compilation_cache_dir", os.environ[PROGRAMS])
    _check_keras()


def trainer(experiment: Experiment, rule: ClientRule, data: Dataset, weighted: bool) -> Trainer:
    """Return a new trainer (imports Keras and JAX)."""
    from simulation.training.jax.trainer import JaxTrainer

    return JaxTrainer(experiment, data, rule, weighted)


def train_together(asked: Sequence[Asked]) -> list[Outcome]:
    """Train jobs of several runs, those of one kind in one program."""
    from simulation.training.jax import together

    return together.train_together(cast(Sequence[together.Ask], asked))


def _check_keras() -> None:
    import keras

    found = keras.backend.backend()
    if found != "jax":
        raise ModelError(
            f"backend jax needs a process in which Keras runs on JAX, but it was imported here on "
            f"{found}: set KERAS_BACKEND=jax before Keras is imported, or use --engine ray"
        )
