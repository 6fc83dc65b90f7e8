"""skorch's callbacks, scikit-learn's callbacks, and interrupts."""

import re
import types
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from network_common import (
    assert_same_weights,
    cnn,
    dense,
    exact,
    make_films,
    transfer,
    weights_of,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, MlflowLogger, TensorBoard

import sklearn_cxr

X, Y, PATIENTS = make_films()


class Recorder(Callback):
    """Counts every hook."""

    def initialize(self):
        self.seen_ = []
        return self

    def on_train_begin(self, net, **kwargs):
        self.seen_.append("train")

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.seen_.append(("epoch", len(dataset_train), dataset_valid is not None))

    def on_batch_end(self, net, batch=None, training=None, loss=None, y_pred=None, **kwargs):
        self.seen_.append((training, len(batch[0]), tuple(y_pred.shape), loss.ndim))

    def on_grad_computed(self, net, named_parameters=None, **kwargs):
        self.seen_.append(all(p.grad is not None for _, p in named_parameters))

    def on_epoch_end(self, net, **kwargs):
        self.seen_.append(sorted(key for key in net.history[-1] if key.startswith("train")))

    def on_train_end(self, net, **kwargs):
        self.seen_.append("end")


def test_every_hook_is_called():
    recorder = Recorder()
    clf = cnn(callbacks=[recorder], batch_size=12, max_epochs=1, validation_fraction=0.5)
    clf.fit(X, Y, groups=PATIENTS)
    epoch_keys = ["train_accuracy", "train_batch_count", "train_loss", "train_loss_best"]
    assert recorder.seen_ == [
        "train",
        ("epoch", 1, True),
        True,
        (True, 12, (12, 1), 0),
        (False, 12, (12, 1), 0),
        epoch_keys,
        "end",
    ]


def test_one_file_alone_imports_skorch():
    root = Path(sklearn_cxr.__file__).parent
    statement = re.compile(r"^\s*(import|from) skorch\b", re.MULTILINE)
    files = [p for p in root.rglob("*.py") if statement.search(p.read_text(encoding="utf-8"))]
    assert [path.relative_to(root).as_posix() for path in files] == ["neural_network/_skorch.py"]


def test_net_is_skorchs():
    clf = cnn(batch_size=12, validation_fraction=0.5).fit(X, Y, groups=PATIENTS)
    net = clf.net_
    assert isinstance(net, skorch.NeuralNet)
    assert isinstance(net.module_, torch.nn.Module)
    assert not net.module_.training
    assert [row["epoch"] for row in net.history] == [1, 2]
    assert all(isinstance(row["dur"], float) for row in net.history)
    batches = net.history[-1, "batches"]
    assert [sorted(row) for row in batches] == [
        ["train_batch_size", "train_loss"],
        ["valid_batch_size", "valid_loss"],
    ]
    assert batches[0]["train_loss"] == pytest.approx(net.history[-1, "train_loss"])
    assert batches[1]["valid_loss"] == pytest.approx(net.history[-1, "valid_loss"])
    assert all(isinstance(value, float | int) for row in batches for value in row.values())


def test_nothing_of_the_training_is_kept():
    clf = cnn(weight_averaging=0.5).fit(X, Y)
    net = clf.net_
    assert not hasattr(net, "optimizer_")
    assert net.plan is net.stored_optimizer is None
    assert all(p.grad is None for p in net.module_.parameters())
    assert cnn(warm_start=True).fit(X, Y).net_.stored_optimizer["optimizer"] == "adam"


def test_checkpoint_of_the_best_epoch(tmp_path):
    keep = Checkpoint(dirname=tmp_path, f_pickle=None, monitor="valid_loss_best")
    clf = cnn(
        callbacks=[keep],
        early_stopping=True,
        patience=2,
        validation_fraction=0.3,
        max_epochs=30,
        lr=0.05,
    )
    y = np.random.default_rng(0).permutation(Y)
    clf.fit(X, y, groups=PATIENTS)
    assert clf.best_epoch_ < clf.n_iter_
    stored = torch.load(tmp_path / "params.pt", weights_only=True)
    for name, value in clf.net_.module_.state_dict().items():
        torch.testing.assert_close(stored[name], value)


def test_checkpoint_without_held_out_images(tmp_path):
    keep = Checkpoint(dirname=tmp_path, monitor="train_loss_best", f_pickle=None)
    clf = cnn(callbacks=[("keep", keep)]).fit(X, Y)
    assert clf.net_.history[:, "event_cp"] == [True, True]
    assert (tmp_path / "params.pt").exists()


def test_a_fit_goes_on_from_what_a_checkpoint_has_loaded(tmp_path):
    keep = Checkpoint(
        dirname=tmp_path,
        f_pickle=None,
        monitor=lambda net: len(net.history) == 1,
        load_best=True,
    )
    clf = cnn(callbacks=[keep], weight_averaging=0.9, warm_start=True, lr=0.1, max_epochs=3)
    first = torch.load(clf.fit(X, Y) and tmp_path / "params.pt", weights_only=True)
    clf.set_params(callbacks=None, lr=1e-12, max_epochs=1).fit(X, Y)
    for name, value in clf.net_.module_.state_dict().items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=1e-9)


class Writer:
    """What skorch asks of a tensorboard writer."""

    def __init__(self):
        self.scalars, self.closed = [], False

    def add_scalar(self, tag, scalar_value, global_step):
        self.scalars.append((tag, scalar_value, global_step))

    def close(self):
        self.closed = True


def test_tensorboard():
    writer = Writer()
    clf = cnn(callbacks=[TensorBoard(writer)], max_epochs=3).fit(X, Y)
    losses = [value for tag, value, _ in writer.scalars if tag == "Loss/train_loss"]
    np.testing.assert_array_equal(losses, clf.history_.train_loss)
    assert {step for _, _, step in writer.scalars} == {1, 2, 3}
    assert writer.closed


def test_mlflow():
    logged, artifacts = [], []
    client = types.SimpleNamespace(
        log_metric=lambda run, key, value, step: logged.append((key, value, step)),
        log_artifact=lambda run, path: artifacts.append(path.name),
        set_terminated=lambda run: artifacts.append("end"),
    )
    run = types.SimpleNamespace(info=types.SimpleNamespace(run_id="7"))
    clf = cnn(callbacks=[MlflowLogger(run, client)], max_epochs=2).fit(X, Y)
    losses = [value for key, value, _ in logged if key == "train_loss"]
    np.testing.assert_array_equal(losses, clf.history_.train_loss)
    assert artifacts == ["params.pth", "optimizer.pth", "criterion.pth", "history.json", "end"]


def test_skorchs_early_stopping_ends_the_fit():
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs")
    clf = cnn(callbacks=[stop], max_epochs=20).fit(X, Y)
    # The first epoch is below infinity; none after it gains as much as is asked for.
    assert clf.n_iter_ == 3
    assert clf.predict(X).shape == (24,)


def test_a_learning_rate_of_a_callback():
    class Slow(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.optimizer_.param_groups[0]["lr"] = 0.1 / len(net.history)

    clf = cnn(callbacks=[Slow()], max_epochs=3).fit(X, Y)
    np.testing.assert_allclose(clf.history_.lr, [0.1, 0.05, 0.1 / 3])


def test_callbacks_change_nothing():
    assert_same_weights(cnn(callbacks=[Recorder()]).fit(X, Y), cnn().fit(X, Y))
    again = clone(cnn(callbacks=[Recorder()])).fit(X, Y)
    assert again.callbacks[0].seen_[-1] == "end"


class Interrupt(Callback):
    def __init__(self, hook):
        setattr(self, hook, self._interrupt)

    def _interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize("hook", ["on_train_begin", "on_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("make", [cnn, transfer, dense])
def test_an_interrupt_raises_and_leaves_nothing_fitted(make, hook):
    images = X.reshape(24, -1)
    clf = make().fit(images, Y)
    before = torch.get_rng_state()
    clf.set_params(callbacks=[Interrupt(hook)])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(images, Y)
    assert not hasattr(clf, "net_")
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)
    with pytest.raises(NotFittedError):
        clf.predict(images)
    assert (torch.get_rng_state() == before).all()
    assert clf.set_params(callbacks=None).fit(images, Y).predict(images).shape == (24,)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_interrupt_of_a_fit_that_goes_on(method):
    clf = cnn(warm_start=True).fit(X, Y).set_params(callbacks=[Interrupt("on_batch_end")])
    with pytest.raises(KeyboardInterrupt):
        getattr(clf, method)(X, Y)
    with pytest.raises(NotFittedError):
        clf.predict(X)


@pytest.fixture
def sklearn_callback():
    return pytest.importorskip("sklearn.callback", reason="callbacks come with scikit-learn 1.9")


def test_scoring_monitor_scores_each_epoch(sklearn_callback):
    monitor = sklearn_callback.ScoringMonitor(scoring=["neg_log_loss", "accuracy"])
    clf = exact(cnn, max_epochs=4).set_callbacks(monitor).fit(X, Y)
    log = monitor.get_logs()
    rows = [row for row in (log[0] if isinstance(log, list) else log).data if "epoch" in str(row)]
    assert len(rows) == 4
    assert rows[-1]["accuracy"] == accuracy_score(Y, clf.predict(X))
    assert -rows[-1]["neg_log_loss"] == pytest.approx(log_loss(Y, clf.predict_proba(X)))
    # The loss of an epoch of one batch is that of the weights before it.
    before = [-row["neg_log_loss"] for row in rows[:-1]]
    np.testing.assert_allclose(before, clf.history_.train_loss[1:])


def test_monitor_sees_the_averaged_weights(sklearn_callback):
    monitor = sklearn_callback.ScoringMonitor(scoring="neg_log_loss")
    clf = exact(cnn, max_epochs=3, weight_averaging=0.8).set_callbacks(monitor).fit(X, Y)
    log = monitor.get_logs()
    rows = [row for row in (log[0] if isinstance(log, list) else log).data if "epoch" in str(row)]
    last = log_loss(Y, clf.predict_proba(X))
    assert -rows[-1]["neg_log_loss"] == pytest.approx(last)


def test_progress_bar_of_a_search(sklearn_callback, capfd):
    pytest.importorskip("rich", reason="scikit-learn's bar is drawn by rich")
    search = GridSearchCV(cnn(max_epochs=1), {"lr": [0.1, 0.01]}, cv=StratifiedGroupKFold(2))
    if not hasattr(search, "set_callbacks"):
        pytest.skip("this search has no callbacks")
    search.set_callbacks(sklearn_callback.ProgressBar())
    search.fit(X, Y, groups=PATIENTS)
    assert "100%" in capfd.readouterr().out


def test_progress_bar_of_a_fit(sklearn_callback, capfd):
    pytest.importorskip("rich", reason="scikit-learn's bar is drawn by rich")
    clf = cnn(max_epochs=3).set_callbacks(sklearn_callback.ProgressBar()).fit(X, Y)
    assert "100%" in capfd.readouterr().out
    assert_same_weights(clf, cnn(max_epochs=3).fit(X, Y))


def test_a_callback_that_ends_the_fit(sklearn_callback):
    class StopAfterTwo:
        seen = 0

        def setup(self, estimator, context):
            self.seen = 0

        def on_fit_task_begin(self, estimator, context, **kwargs):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **kwargs):
            self.seen += context.task_name == "epoch"
            return self.seen == 2

        def teardown(self, estimator, context):
            pass

    clf = cnn(max_epochs=5).set_callbacks(StopAfterTwo()).fit(X, Y)
    assert clf.n_iter_ == 2
    assert weights_of(clf)
