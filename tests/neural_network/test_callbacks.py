"""Which callbacks a fit takes, and which interrupt is a request."""

import numpy as np
import pytest
from network_common import cnn, dense, make_films
from skorch.callbacks import BatchScoring, Callback, EarlyStopping, EpochScoring, ProgressBar

from sklearn_cxr.neural_network._callbacks import check_callbacks
from sklearn_cxr.neural_network._skorch import is_request

X, Y, PATIENTS = make_films()


@pytest.mark.parametrize("given", ["x", 3, ("x",), ("x", "y"), object()])
def test_what_is_no_callback_raises_and_keeps_the_fit(given):
    clf = cnn(max_epochs=1, warm_start=True).fit(X, Y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="CNNClassifier takes skorch callbacks, or pairs"):
        clf.set_params(callbacks=[given]).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize("given", [EpochScoring("accuracy"), ("acc", BatchScoring("accuracy"))])
def test_scoring_by_batch_is_refused_with_the_reason(given):
    with pytest.raises(ValueError, match=r"cannot use \w+Scoring in .*ScoringMonitor"):
        dense(callbacks=[given]).fit(X.reshape(24, -1), Y)


def test_instances_classes_and_pairs_are_taken():
    check_callbacks([Callback(), ProgressBar, ("named", Callback()), ("class", Callback)], "CNN")
    check_callbacks(None, "CNN")


def interrupt_of(callback, hook, net):
    try:
        getattr(callback, hook)(net)
    except KeyboardInterrupt as error:
        return error
    raise AssertionError("nothing was raised")


class FakeNet:
    """A history whose reading Ctrl-C may come into."""

    verbose = 0

    def __init__(self, pressed):
        self._pressed = pressed

    @property
    def history(self):
        if self._pressed:
            raise KeyboardInterrupt
        return {(-1, "loss"): 1.0, (-1, "epoch"): 1}


def test_early_stopping_asks_for_the_end():
    stop = EarlyStopping("loss", patience=1, sink=lambda text: None).initialize()
    stop.on_train_begin(FakeNet(False))
    stop.on_epoch_end(FakeNet(False))
    assert is_request(interrupt_of(stop, "on_epoch_end", FakeNet(False)))


def test_ctrl_c_within_early_stopping_is_no_request():
    stop = EarlyStopping("loss", patience=1).initialize()
    stop.on_train_begin(FakeNet(False))
    assert not is_request(interrupt_of(stop, "on_epoch_end", FakeNet(True)))


def test_ctrl_c_within_another_callback_of_skorchs_goes_through():
    """As though it came while a line of that file was running."""
    code = compile(
        "def on_epoch_end(self, net, **kwargs):\n    raise KeyboardInterrupt", "x", "exec"
    )
    there = {"__name__": "skorch.callbacks.logging"}
    exec(code, there)
    slow = type("Slow", (Callback,), {"on_epoch_end": there["on_epoch_end"]})
    with pytest.raises(KeyboardInterrupt):
        cnn(callbacks=[slow()]).fit(X, Y)
