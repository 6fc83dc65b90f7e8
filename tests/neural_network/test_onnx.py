"""ONNX files that answer like predict_proba."""

import shutil
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from tiny_networks import TinyBackbone, TinyConvNet

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.neural_network import CNNClassifier, DenseHeadClassifier, TransferClassifier
from sklearn_cxr.neural_network import _onnx as to_file

onnxruntime = pytest.importorskip("onnxruntime", reason="of the extra onnx")
pytest.importorskip("onnx", reason="of the extra onnx")
pytest.importorskip("onnxscript", reason="of the extra onnx")

COMMON = {"max_epochs": 2, "random_state": 0, "device": "cpu", "precision": "float32"}


def small(**params):
    return CNNClassifier(channels=(4,), dense=(8,), lr=0.02, **COMMON | params)


def fit(name):
    """A model of the kind, and rows as it takes them."""
    films = make_chest_xrays(24, image_size=16, random_state=0)
    X, y = films.images[:, ::2, ::2], films.target
    disease = np.where(y > 0, "pneumonia", "normal")
    if name == "uint8, two classes, flipped":
        return small(tta="flip").fit(X, disease), X
    if name == "uint16, three classes, colour":
        X = np.stack([X.astype(np.uint16) * k for k in (40, 90, 257)], axis=-1)
        return small(batch_norm=True).fit(X, y), X
    if name == "unit float, labels, shifted":
        labels = np.stack([y > 0, np.ones(24), y > 1], axis=1).astype(float)
        labels[3, 0] = np.nan
        X = (X / 255).astype(np.float32)
        with pytest.warns(UserWarning, match="one class only"):
            return small(tta=["flip", "shift"]).fit(X, labels), X
    if name == "other levels, transferred":
        X = X.astype(np.int16) * 4 - 500
        clf = TransferClassifier(TinyBackbone, weights=None, value_range=(-500, 600), **COMMON)
        return clf.fit(X, y), X
    X = X.reshape(24, -1) * 100.0 + 5000
    return DenseHeadClassifier((8,), batch_norm=True, **COMMON).fit(X, disease), X


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Models by kind, each exported when it is first asked for."""
    folder, known = tmp_path_factory.mktemp("onnx"), {}

    def get(name):
        if name not in known:
            model, X = fit(name)
            known[name] = model, X, model.to_onnx(folder / f"{len(known)}.onnx")
        return known[name]

    return get


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("uint8, two classes, flipped", "tensor(uint8)"),
        ("uint16, three classes, colour", "tensor(uint16)"),
        ("unit float, labels, shifted", "tensor(float)"),
        ("other levels, transferred", "tensor(float)"),
        ("features", "tensor(float)"),
    ],
)
def test_answers_are_those_of_predict_proba(exported, name, stored):
    model, X, path = exported(name)
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    assert given.name == "images"
    assert given.type == stored
    assert isinstance(given.shape[0], str)
    assert tuple(given.shape[1:]) == X.shape[1:]
    levels = X.astype(np.float32) if stored == "tensor(float)" else X
    for n in (1, 2, 7, 24):
        (answer,) = session.run(["probabilities"], {"images": levels[:n]})
        expected = model.predict_proba(X[:n])
        assert answer.dtype == np.float32
        assert answer.shape == expected.shape
        assert np.abs(answer - expected).max() < 1e-4
    # Of rows that are all the same the comparison would say nothing.
    assert np.ptp(model.predict_proba(X)[:, 0]) > 0.01


def test_a_published_network(tmp_path):
    pytest.importorskip("timm", reason="efficientnet_lite0 comes with the extra timm")
    films = make_chest_xrays(6, image_size=64, random_state=0)
    params = {"weights": None, "fine_tune": "head", "augment": None, **COMMON}
    model = TransferClassifier("efficientnet_lite0", **params).fit(films.images, films.target)
    session = onnxruntime.InferenceSession(model.to_onnx(tmp_path / "model.onnx"))
    (answer,) = session.run(["probabilities"], {"images": films.images})
    expected = model.predict_proba(films.images)
    assert np.ptp(expected[:, 0]) > 1e-3
    assert np.abs(answer - expected).max() < 1e-4


def test_a_label_with_one_value_is_constant(exported):
    _, X, path = exported("unit float, labels, shifted")
    (answer,) = onnxruntime.InferenceSession(path).run(None, {"images": X})
    assert (answer[:, 1] == 1).all()
    assert ((answer[:, [0, 2]] > 0) & (answer[:, [0, 2]] < 1)).all()


def test_the_file_is_all_there_is(exported):
    _, _, path = exported("features")
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".onnx"] * len(
        list(path.parent.iterdir())
    )


def test_nothing_is_printed_and_the_model_stays_as_it_is(tmp_path, capfd):
    # Warnings are errors here.
    X = np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8)
    model = CNNClassifier(TinyConvNet, **COMMON).fit(X, np.arange(12) % 2)
    before, generator = model.predict_proba(X), torch.get_rng_state()
    capfd.readouterr()
    assert model.to_onnx(str(tmp_path / "model.onnx")) == tmp_path / "model.onnx"
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), generator)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert [p.requires_grad for p in model.net_.module_.parameters()] == [True] * 4


class TestFailures:
    def test_a_file_that_answers_differently_is_not_written(self, exported, tmp_path, monkeypatch):
        model, X, path = exported("uint8, two classes, flipped")
        other = small(tta="flip").fit(X, np.resize(model.classes_, 24))
        assert np.abs(other.predict_proba(X) - model.predict_proba(X)).max() > 1e-3
        monkeypatch.setattr(to_file, "_write", lambda module, batch, to: shutil.copy(path, to))
        (tmp_path / "old.onnx").write_text("as it was")
        for name in ("old.onnx", "new.onnx"):
            with pytest.raises(RuntimeError, match=f"{name} was not written"):
                other.to_onnx(tmp_path / name)
        assert [p.name for p in tmp_path.iterdir()] == ["old.onnx"]
        assert (tmp_path / "old.onnx").read_text() == "as it was"

    def test_an_exporter_that_fails_is_named(self, exported, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            raise TypeError("no such operation")

        monkeypatch.setattr(torch.onnx, "export", fail)
        model = exported("features")[0]
        with pytest.raises(RuntimeError, match=r"onnxscript [\d.]+.*no such operation"):
            model.to_onnx(tmp_path / "model.onnx")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_package_names_the_extra(self, exported, tmp_path, monkeypatch, package):
        model = exported("features")[0]
        monkeypatch.setitem(sys.modules, package, None)
        message = rf"DenseHeadClassifier\.to_onnx needs the package '{package}'.*\[onnx\]"
        with pytest.raises(ImportError, match=message):
            model.to_onnx(tmp_path / "model.onnx")
        assert list(tmp_path.iterdir()) == []

    def test_an_unfitted_model(self, tmp_path):
        with pytest.raises(NotFittedError):
            small().to_onnx(tmp_path / "model.onnx")
