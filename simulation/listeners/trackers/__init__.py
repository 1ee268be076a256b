"""Trackers: listeners that write a run's metrics where TensorBoard, MLflow or W&B look for them.

Each needs its extra: ``pip install 'sunflower-fl[tensorboard]'``, ``[mlflow]`` or ``[wandb]``. A
tracker of one's own is any :class:`~simulation.listeners.listener.Listener`, named
``module:Class``; its options become the keyword arguments of the class.

>>> experiment.replace(track=["tensorboard", {"name": "mlflow", "uri": "mlruns"}])  # doctest: +SKIP
"""

from simulation.listeners.trackers.choice import BUILT_IN, Guarded, make
from simulation.listeners.trackers.common import numbers

__all__ = ["BUILT_IN", "Guarded", "make", "numbers"]
