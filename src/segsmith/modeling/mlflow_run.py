"""Rows of epochs -> a run of MLflow, if the recipe asks for one."""

import math
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from segsmith import recipe
from segsmith.errors import ModelError
from segsmith.files import write_text
from segsmith.modeling.logbook import Row
from segsmith.modeling.run import Run, flat_options

AT_ONCE = 100
"""Parameters that MLflow takes in one go."""


def check_mlflow(options: recipe.Train) -> None:
    """Raise ModelError if a recipe asks for MLflow and it is not installed."""
    if options.mlflow is not False and find_spec("mlflow") is None:
        raise ModelError(
            f"train.mlflow={options.mlflow} needs MLflow, which is not installed: pip install 'segsmith[mlflow]', or "
            "set train.mlflow=false"
        )


def open_mlflow(options: recipe.Recipe, run: Run) -> "MlflowRun | None":
    """The run of MLflow that belongs to a run folder, made if it has none; None unless the recipe asks for one.

    Its experiment is named after the recipe, its parameters are the recipe's options. Which it is stands in the file
    `mlflow`. Raises ModelError for a store that cannot be reached.
    """
    if options.train.mlflow is False:
        return None
    from mlflow import MlflowClient
    from mlflow.entities import Param

    local = f"sqlite:///{(run.folder.parent / 'mlflow.db').resolve()}"
    uri = local if options.train.mlflow is True else options.train.mlflow
    try:
        client = MlflowClient(tracking_uri=uri)
        known = run.folder / "mlflow"
        if known.is_file():
            run_id = known.read_text()
            client.update_run(run_id, "RUNNING")
            return MlflowRun(client, run_id)
        experiment = client.get_experiment_by_name(options.name)
        number = experiment.experiment_id if experiment else client.create_experiment(options.name)
        run_id = client.create_run(number, run_name=run.folder.name).info.run_id
        told = [Param(key, str(value)[:500]) for key, value in flat_options(options.model_dump(mode="json")).items()]
        for first in range(0, len(told), AT_ONCE):
            client.log_batch(run_id, params=told[first : first + AT_ONCE])
    except Exception as error:  # those of its many stores
        raise ModelError(
            f"train.mlflow={options.train.mlflow}: MLflow cannot be reached ({str(error).splitlines()[0]}); give "
            "another URI, or set train.mlflow=false"
        ) from error
    write_text(known, run_id)
    return MlflowRun(client, run_id)


class MlflowRun:
    """A run of MLflow; each epoch is told once, whatever stopped the training in between."""

    def __init__(self, client: Any, run_id: str):
        self.client, self.run_id = client, run_id
        self.told = len(client.get_metric_history(run_id, "loss"))

    def log(self, rows: Sequence[Row]) -> None:
        """Tell the epochs that were not told yet, steps counted from 1. A store that fails is tried again after the
        next epoch: hours of training do not end for it."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        try:
            for epoch, row in enumerate(rows[self.told :], start=self.told + 1):
                numbers = {name.replace(":", "/"): float(value) for name, value in row.items()}
                told = [Metric(name, value, now, epoch) for name, value in numbers.items() if math.isfinite(value)]
                self.client.log_batch(self.run_id, metrics=told)
                self.told = epoch
        except Exception as error:
            warnings.warn(f"MLflow does not answer, and is asked again after the next epoch: {error}", stacklevel=2)

    def finish(self) -> None:
        """Say that the training is over."""
        try:
            self.client.set_terminated(self.run_id)
        except Exception as error:
            warnings.warn(f"MLflow does not answer, and does not know that the training is over: {error}", stacklevel=2)
