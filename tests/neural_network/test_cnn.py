"""Networks from scratch: what they make of grey levels, of any form of input and of labels."""

import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from network_common import InChunks, assert_same_weights, cnn, make_films, make_labels
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline
from tiny_networks import TinyConvNet
from torch import nn
from torchvision.transforms import v2

from sklearn_cxr.metrics import nan_roc_auc_scorer
from sklearn_cxr.model_selection import MultilabelStratifiedGroupKFold
from sklearn_cxr.preprocessing import ImageReader
from sklearn_cxr.utils import _chunks

X, Y, PATIENTS = make_films()


@pytest.mark.parametrize(
    ("images", "kind", "levels"),
    [
        (X, "uint8", (0, 255)),
        (X.astype(np.uint16) * 200, "uint16", (0, 65535)),
        (X / 255, "unit float", (0, 1)),
        (X * 13.5 - 700, "other", None),
        (X.astype(np.int64) * 3, "other", None),
    ],
)
def test_grey_levels_of_every_kind(images, kind, levels):
    clf = cnn(max_epochs=15).fit(images, Y)
    assert clf.input_kind_ == kind
    assert clf.levels_ == (levels or (images.min(), images.max()))
    low, high = clf.levels_
    unit = (images - low) / (high - low)
    assert clf.mean_ == (pytest.approx(unit.mean()),)
    assert clf.std_ == (pytest.approx(unit.std()),)
    assert clf.score(images, Y) > 0.9


def test_the_network_takes_mean_zero_and_deviation_one():
    seen = []

    class Watched(TinyConvNet):
        def forward(self, images):
            if self.training:
                seen.append(images)
            return self.body(images)

    weight = np.where(Y == 1, 2.0, 1.0)
    cnn(Watched, max_epochs=1, precision="float64", batch_size=100).fit(X, Y, sample_weight=weight)
    (images,) = seen
    values = images.numpy().reshape(24, -1)
    per_image = values.mean(axis=1), (values**2).mean(axis=1)
    # The order is that of the fit: bright images, of class 1, are told by their mean.
    bright = np.argsort(np.argsort(per_image[0])) >= 12
    weights = np.where(bright, 2.0, 1.0)
    assert np.average(per_image[0], weights=weights) == pytest.approx(0, abs=1e-9)
    assert np.average(per_image[1], weights=weights) == pytest.approx(1)


def test_colours_are_normalised_by_channel():
    rng = np.random.default_rng(0)
    films = (rng.random((24, 9, 9, 3)) * [50, 100, 200]).astype(np.uint8)
    clf = cnn().fit(films, Y)
    np.testing.assert_allclose(clf.mean_, films.mean(axis=(0, 1, 2)) / 255)
    np.testing.assert_allclose(clf.std_, films.std(axis=(0, 1, 2)) / 255)
    assert clf.net_.module_.body.body[0].in_channels == 3


@pytest.mark.parametrize("labels", [["b", "a"], [3, 1], [True, False], [2.0, 5.0]])
def test_labels_of_any_kind(labels):
    y = np.array(labels)[Y]
    clf = cnn(max_epochs=15).fit(X, y)
    np.testing.assert_array_equal(clf.classes_, np.unique(labels))
    predicted = clf.predict(X)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.9
    probabilities = clf.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(clf.classes_[probabilities.argmax(axis=1)], predicted)


def test_object_labels_of_a_series():
    y = pd.Series(np.array(["normal", "viral", "bacterial"], dtype=object)[np.arange(24) % 3])
    clf = cnn(lr_schedule=None).fit(X, y)
    assert clf.classes_.tolist() == ["bacterial", "normal", "viral"]
    assert clf.predict_proba(X).shape == (24, 3)


def test_three_classes():
    films, y, _ = make_films(48, n_classes=3)
    clf = cnn(max_epochs=20).fit(films, y)
    assert clf.net_.module_(torch.as_tensor(films)).shape == (48, 3)
    np.testing.assert_allclose(clf.predict_proba(films).sum(axis=1), 1)
    assert clf.score(films, y) > 0.9


def test_several_labels():
    labels = np.column_stack([Y, 1 - Y, np.arange(24) % 2]).astype(float)
    labels[:3, 0] = np.nan
    clf = cnn(max_epochs=20).fit(X, labels)
    assert clf.classes_.tolist() == [0, 1, 2]
    predicted = clf.predict(X)
    assert (predicted[:, 0] == Y).mean() > 0.9
    assert (predicted[:, 1] == 1 - Y).mean() > 0.9
    whole = ((predicted == labels) | np.isnan(labels)).all(axis=1)
    assert clf.score(X, labels) == pytest.approx(whole.mean())


def test_a_class_missing_from_a_fold_is_what_scikit_learn_makes_of_it():
    films, y, _ = make_films(24, n_classes=3)
    with pytest.warns(RuntimeWarning, match=r"Number of classes in training fold \(2\) does"):
        out = cross_val_predict(cnn(max_epochs=1), films, y, method="predict_proba", cv=Folds(y))
    assert out.shape == (24, 3)
    assert (out[y == 2][:, 2] == 0).all()
    np.testing.assert_allclose(out.sum(axis=1), 1)


class Folds:
    """Two folds, of which the first knows nothing of class 2."""

    def __init__(self, y):
        self.y = y

    def split(self, *args, **kwargs):
        yield np.flatnonzero(self.y != 2), np.flatnonzero(self.y == 2)
        yield np.arange(len(self.y)), np.flatnonzero(self.y != 2)

    def get_n_splits(self, *args, **kwargs):
        return 2


@pytest.mark.parametrize("kind", ["flat", "memmap", "h5py", "reader", "frame", "list"])
def test_input_of_every_form_gives_the_same_network(kind, tmp_path):
    np.save(tmp_path / "films.npy", X)
    with h5py.File(tmp_path / "films.h5", "w") as file:
        if kind == "reader":
            for number, film in enumerate(X):
                Image.fromarray(film).save(tmp_path / f"{number:02d}.png")
            reader = ImageReader(size=9, cache_dir=tmp_path / "store")
            images = reader.fit_transform(sorted(map(str, tmp_path.glob("*.png"))))
            np.testing.assert_array_equal(images, X)
        else:
            images = {
                "flat": lambda: X.reshape(24, -1),
                "memmap": lambda: np.load(tmp_path / "films.npy", mmap_mode="r"),
                "h5py": lambda: file.create_dataset("films", data=X),
                "frame": lambda: pd.DataFrame(X.reshape(24, -1)),
                "list": lambda: list(X),
            }[kind]()
        params = {"batch_size": 7, "augment": "flip", "validation_fraction": 0.3}
        clf = cnn(**params).fit(images, Y, groups=PATIENTS)
        plain = cnn(**params).fit(X, Y, groups=PATIENTS)
        assert_same_weights(clf, plain)
        np.testing.assert_array_equal(clf.predict_proba(images), plain.predict_proba(X))


@pytest.mark.parametrize("images", [X, X / 255])
def test_a_view_is_never_held_whole(monkeypatch, images):
    monkeypatch.setattr(_chunks, "CHUNK_VALUES", 6 * 81)
    view = InChunks(images)
    clf = cnn(batch_size=6).fit(view, Y)
    probabilities = clf.predict_proba(view)
    assert view.largest == 6
    plain = cnn(batch_size=6).fit(images, Y)
    np.testing.assert_allclose(probabilities, plain.predict_proba(images), rtol=1e-6)


def test_the_input_is_not_written_to():
    images = X.copy()
    images.flags.writeable = False
    cnn(augment="strong", mixup=0.2).fit(images, Y).predict(images)
    np.testing.assert_array_equal(images, X)


def test_flips_are_averaged_in_prediction():
    clf = cnn(max_epochs=5).fit(X, Y)
    expected = (clf.predict_proba(X) + clf.predict_proba(X[:, :, ::-1])) / 2
    clf.set_params(tta="flip")
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-6)


def test_shifts_are_averaged_in_prediction():
    clf = cnn(max_epochs=5, precision="float64").fit(X, Y)
    moved = [X]
    for axis in (1, 2):
        for step in (1, -1):
            films = np.roll(X, step, axis=axis)
            edge = np.moveaxis(films, axis, 1)
            edge[:, 0 if step == 1 else -1] = np.moveaxis(X, axis, 1)[:, 0 if step == 1 else -1]
            moved.append(films)
    expected = np.mean([clf.predict_proba(films) for films in moved], axis=0)
    clf.set_params(tta=("shift",))
    np.testing.assert_allclose(clf.predict_proba(X), expected)


def test_augmentation_is_off_in_prediction():
    clf = cnn(augment="strong", mixup=0.4).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_allclose(clf.predict_proba(X[:3]), clf.predict_proba(X)[:3], rtol=1e-5)


@pytest.mark.parametrize(
    "augment", [v2.RandomHorizontalFlip(1.0), lambda x: x.flip(-1), {"flip": 1}]
)
def test_augmentation_of_every_form(augment):
    """A network trained on mirror images alone is that of the mirror images."""
    params = {"precision": "float64", "max_epochs": 3}
    clf = cnn(augment=augment, **params).fit(X, Y)
    mirrored = cnn(**params).fit(X[:, :, ::-1], Y)
    if isinstance(augment, dict):
        # Its draws move the order of nothing, since batches have a generator of their own.
        np.testing.assert_allclose(clf.predict_proba(X), mirrored.predict_proba(X), rtol=1e-6)
    else:
        assert_same_weights(clf, mirrored, rtol=1e-8)


def test_a_transform_with_a_get_params_of_its_own_is_no_estimator():
    """scikit-learn would ask it for parameters, and torchvision's draws some."""
    augment = v2.RandomAffine(20)
    assert hasattr(augment, "get_params")
    clf = cnn(augment=augment, max_epochs=1)
    assert clf.get_params()["augment"] is augment
    with sklearn.config_context(enable_metadata_routing=True):
        cloned = clone(clf.set_fit_request(sample_weight=True))
    assert cloned.augment is not augment and cloned.augment.degrees == [-20, 20]
    assert cloned.get_params().keys() == clf.get_params().keys()
    assert cloned.get_metadata_routing().fit.requests["sample_weight"] is True
    search = GridSearchCV(
        Pipeline([("clf", clf)]),
        # In a grid scikit-learn meets the transform itself; one in a Compose it leaves alone.
        [{"clf__lr": [0.1, 0.01]}, {"clf__augment": [v2.Compose([augment]), None]}],
        cv=2,
        error_score="raise",
    )
    assert search.fit(X, Y).predict(X).shape == (24,)
    assert_same_weights(cloned.fit(X, Y), clf.fit(X, Y))


def test_options_reach_the_architecture():
    clf = cnn("baseline", channels=(3, 5), dense=(7,), kernel_size=3, dropout=0.1, batch_norm=True)
    module = clf.fit(X, Y).net_.module_
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(1, 3), (3, 5)]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    dense = [m for m in module.modules() if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in dense] == [7, 1]
    assert [m.p for m in module.modules() if isinstance(m, nn.Dropout)] == [0.1]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in module.modules()) == 2


def test_a_factory_and_an_instance():
    def factory(image_shape, n_outputs):
        return nn.Sequential(nn.Flatten(), nn.Linear(81 * image_shape[2], n_outputs))

    assert cnn(factory).fit(X, Y).predict(X).shape == (24,)
    module = factory((9, 9, 1), 1)
    kept = module[1].weight.detach().clone()
    clf = cnn(module).fit(X, Y)
    assert (module[1].weight == kept).all()
    assert (clf.net_.module_.body[1].weight != kept).any()


def test_a_search_over_fourteen_labels_with_unknowns():
    films, _, patients = make_films(60)
    labels = make_labels(60, 14, unknown=0.3)
    search = GridSearchCV(
        cnn(max_epochs=1, early_stopping=True, validation_fraction=0.3),
        {"lr": [1e-2, 1e-3]},
        cv=MultilabelStratifiedGroupKFold(2),
        scoring=nan_roc_auc_scorer,
        error_score="raise",
    )
    # Few patients cannot keep the shares of fourteen labels, which is warned of.
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "With whole patients on either side")
        search.fit(films, labels, groups=patients)
    probabilities = search.predict_proba(films)
    assert probabilities.shape == (60, 14)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
