"""`train.mlflow`: each epoch once, whatever stopped the training, and a clear word where MLflow is not installed."""

import signal
import sys

import pandas as pd
import pytest

from segsmith.modeling import mlflow_run
from segsmith.modeling.run import Run
from segsmith.modeling.train import train
from segsmith.modeling.training import TrainingStopped
from segsmith.recipe_files import override, to_yaml


def test_a_missing_mlflow_is_told_before_anything_is_written(monkeypatch, command, squares, tiny, tmp_path):
    monkeypatch.setattr(mlflow_run, "find_spec", lambda name: None)
    (tmp_path / "job.yaml").write_text(to_yaml(tiny))
    said = command("train", squares, tmp_path / "run", "--recipe", tmp_path / "job.yaml", "train.mlflow=true")
    assert said.code == 2
    assert "train.mlflow=True needs MLflow, which is not installed: pip install 'segsmith[mlflow]'" in said.err
    assert not (tmp_path / "run").exists()


def test_without_being_asked_mlflow_is_not_imported(undisturbed):
    run, _ = undisturbed
    assert not (run.folder / "mlflow").exists()
    assert not (run.folder.parent / "mlflow.db").exists()


def test_a_run_that_was_stopped_tells_each_epoch_once(squares, tiny, tmp_path):
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'segsmith[mlflow]'")
    from mlflow import MlflowClient

    asked = override(tiny, ["train.mlflow=true", "name=squares"])
    stops = iter([2, 5])
    at = next(stops)
    seen = 0

    def watch(step):
        nonlocal seen, at
        seen += not step.epoch_is_over
        if seen == at:
            at = next(stops, 0)
            signal.raise_signal(signal.SIGINT)

    for _ in range(2):
        with pytest.raises(TrainingStopped):
            train(squares, asked, tmp_path / "run", watch=watch)
    run = train(squares, asked, tmp_path / "run")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    told = client.search_runs([client.get_experiment_by_name("squares").experiment_id])
    assert len(told) == 1
    assert told[0].info.status == "FINISHED"
    assert told[0].info.run_name == "run"
    assert told[0].data.params["train.stages.0.optimizer.lr"] == "0.01"
    table = pd.read_csv(Run(run.folder).folder / "metrics.csv")
    for name in ("loss", "mean_dice", "lr"):
        history = client.get_metric_history(told[0].info.run_id, name)
        assert [metric.step for metric in history] == [1, 2, 3, 4]
        assert [metric.value for metric in history] == pytest.approx(table[name].tolist())


def test_a_store_out_of_reach_is_told(squares, tiny, command, tmp_path):
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'segsmith[mlflow]'")
    (tmp_path / "job.yaml").write_text(to_yaml(tiny))
    said = command("train", squares, tmp_path / "run", "--recipe", tmp_path / "job.yaml", "train.mlflow=nonsense://x")
    assert said.code == 2
    assert "train.mlflow=nonsense://x: MLflow cannot be reached" in said.err
    assert "mlflow" in sys.modules
