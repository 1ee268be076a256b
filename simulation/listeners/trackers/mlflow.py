"""MLflow: a run in a tracking server, or in a store on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from simulation.config.experiment import Experiment
from simulation.config.fields import Section
from simulation.listeners.listener import Listener
from simulation.listeners.trackers.common import flat, numbers, remembered
from simulation.records.reading import read_rounds


def _store(uri: str | None) -> str | None:
    """Return MLflow's URI of a store; None lets MLflow look into its environment."""
    if uri is None and os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    where = uri or "mlruns"
    if ":" in where:
        return where
    # MLflow wants to be told that a store on disk is meant; whoever names a folder has said so.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return Path(where).absolute().as_uri()


class MLflow(Listener):
    """Write a run of MLflow: parameters, metrics by round, the config and the summary.

    Args:
        uri: the tracking server or store, or a folder for a store of files; by default what
            ``MLFLOW_TRACKING_URI`` says, else the folder ``mlruns``.
        experiment: MLflow's experiment, a group of runs.
    """

    module = "mlflow"

    class Options(Section):
        """What may be set."""

        uri: str | None = None
        experiment: str = "sunflower"

    def __init__(self, uri: str | None = None, experiment: str = "sunflower") -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient(_store(uri))
        # Contact now, so that a store that does not answer is known before the run begins.
        found = self._client.get_experiment_by_name(experiment)
        made = found.experiment_id if found else self._client.create_experiment(experiment)
        self._group, self._run = made, ""

    @override
    def opened(self, path: Path) -> None:
        self._path = path

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        """Start a run, or go on with the one that this run folder belongs to."""
        client, group = self._client, self._group
        tags = {"sunflower.hash": experiment.digest(), "sunflower.label": experiment.label}

        def new() -> str:
            run = client.create_run(group, run_name=self._path.name, tags=tags)
            return str(run.info.run_id)

        self._run = remembered(self._path / "mlflow.run", new)
        client.update_run(self._run, status="RUNNING")
        known = client.get_run(self._run).data
        for name, value in flat(experiment.decisive()):
            if name not in known.params:
                client.log_param(self._run, name, value)
        self._last = max(
            (m.step for m in client.get_metric_history(self._run, "seconds")), default=-1
        )
        for record in read_rounds(self._path):
            self.line(record)

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        """Log every number of the line, its round as the step; rounds done again count once."""
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), record["round"]
        if step > self._last:
            metrics = [Metric(k, v, now, step) for k, v in numbers(record).items()]
            self._client.log_batch(self._run, metrics=metrics)

    @override
    def end(self, summary: Mapping[str, Any]) -> None:
        """Keep the config and the summary, and close the run."""
        if not self._run:
            return
        for name in ("config.json", "summary.json"):
            if (self._path / name).exists():
                self._client.log_artifact(self._run, str(self._path / name))
        states = {"complete": "FINISHED", "interrupted": "KILLED"}
        self._client.set_terminated(self._run, states.get(summary["status"], "FAILED"))
