"""Other packages' entry points take what is made here."""

import json

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection import evaluate
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import IntensityScaler, Resize


@pytest.fixture(scope="module")
def pipeline():
    train, test = (
        make_chest_xrays(80, image_size=32, classes=("normal", "viral"), random_state=seed)
        for seed in (0, 1)
    )
    model = make_pipeline(Resize(16), IntensityScaler("unit"), PixelLogisticRegression(C=1e-3))
    return model.fit(train.images, train.target), test


@pytest.mark.filterwarnings("ignore")  # those of skore and what it imports are not ours
def test_skore_reports_on_a_pipeline(pipeline):
    skore = pytest.importorskip("skore", reason="skore is not a dependency")
    model, test = pipeline
    report = skore.EstimatorReport(model, X_test=test.images, y_test=test.target, pos_label=1)
    ours = evaluate(model, test.images, test.target, groups=test.groups, n_resamples=10)
    figures = ours.metrics["estimate"]
    assert report.metrics.roc_auc() == pytest.approx(figures["roc_auc"])
    assert report.metrics.accuracy() == pytest.approx(figures["accuracy"])
    assert report.metrics.brier_score() == pytest.approx(figures["brier"])


@pytest.mark.filterwarnings("ignore")  # those of MLflow and what it imports are not ours
def test_mlflow_logs_figures_and_files(pipeline, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not a dependency")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    model, test = pipeline
    report = evaluate(model, test.images, test.target, groups=test.groups, n_resamples=10)
    with mlflow.start_run() as run:
        # The line of the user guide.
        mlflow.log_metrics(report.scalars())
        mlflow.log_dict(report.to_dict(), "report.json")
    client = mlflow.MlflowClient()
    logged = client.get_run(run.info.run_id).data.metrics
    assert logged == report.scalars()
    assert logged["roc_auc"] == report.metrics.loc["roc_auc", "estimate"]
    path = client.download_artifacts(run.info.run_id, "report.json", str(tmp_path))
    with open(path, encoding="utf-8") as file:
        assert json.load(file)["fingerprint"] == report.fingerprint
    assert np.isfinite(list(logged.values())).all()
