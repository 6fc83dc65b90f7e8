"""Curves of a training: what they show, and of what."""

import numpy as np
import pandas as pd
import pytest
from network_common import cnn, make_films
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_cxr.neural_network import TrainingHistoryDisplay
from sklearn_cxr.preprocessing import HistogramEqualizer

plt = pytest.importorskip("matplotlib.pyplot", reason="of the extra plot")


@pytest.fixture(autouse=True)
def closed():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def history(n=4, valid=True):
    columns = ["train_loss", "train_accuracy"] + ["valid_loss", "valid_accuracy"] * valid
    values = np.random.default_rng(0).random((n, len(columns)))
    return pd.DataFrame(values, columns=columns, index=range(1, n + 1))


def test_curves_are_the_columns():
    table = history()
    display = TrainingHistoryDisplay(table, best_epoch=3, estimator_name="Net").plot()
    columns = ["train_loss", "valid_loss", "train_accuracy", "valid_accuracy"]
    assert len(display.lines_) == 4
    for line, column in zip(display.lines_, columns, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(line.get_ydata(), table[column])
    assert [ax.get_ylabel() for ax in display.axes_] == ["Loss", "Accuracy"]
    assert display.figure_.get_suptitle() == "Net"
    names = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert names == ["training", "held out", "kept epoch"]
    assert list(display.axes_[0].lines[-1].get_xdata()) == [3, 3]


def test_without_held_out_images():
    display = TrainingHistoryDisplay(history(valid=False)).plot(linewidth=5)
    assert len(display.lines_) == 2
    assert {line.get_linewidth() for line in display.lines_} == {5}


def test_on_given_axes():
    figure, axes = plt.subplots(2)
    display = TrainingHistoryDisplay(history()).plot(axes=axes)
    assert display.figure_ is figure
    assert len(axes[1].lines) == 2


def test_of_a_fitted_network_and_of_a_pipeline():
    X, y, patients = make_films()
    clf = cnn(early_stopping=True, validation_fraction=0.3, max_epochs=3)
    pipe = make_pipeline(HistogramEqualizer(), clf).fit(X, y, cnnclassifier__groups=patients)
    display = TrainingHistoryDisplay.from_estimator(pipe)
    table = pipe[-1].history_
    np.testing.assert_array_equal(display.lines_[1].get_ydata(), table.valid_loss)
    assert display.best_epoch == table.valid_loss.argmin() + 1
    assert display.figure_.get_suptitle() == "CNNClassifier"


def test_what_has_no_history_raises():
    with pytest.raises(TypeError, match="LogisticRegression has no training history"):
        TrainingHistoryDisplay.from_estimator(LogisticRegression())
    with pytest.raises(NotFittedError):
        TrainingHistoryDisplay.from_estimator(cnn())


def test_history_is_a_frame_by_epoch():
    X, y, _ = make_films()
    clf = cnn(max_epochs=3, lr_schedule="cosine", optimizer="sgd").fit(X, y)
    assert isinstance(clf.history_, pd.DataFrame)
    assert clf.history_.index.name == "epoch"
    assert clf.history_.index.tolist() == [1, 2, 3]
    assert clf.history_.dtypes.eq(np.float64).all()
    changed = clf.history_
    changed.loc[1, "lr"] = 100
    assert clf.history_.lr.max() < 1
    with pytest.raises(NotFittedError):
        cnn().history_  # noqa: B018 - reading it is what raises
