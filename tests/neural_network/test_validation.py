"""What is held out: whole patients, shares kept; and the groups that inner fits get."""

import warnings

import numpy as np
import pytest
import sklearn
from network_common import cnn, dense, make_films, make_labels, transfer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline

from sklearn_cxr.exceptions import LeakageRiskWarning
from sklearn_cxr.neural_network import _base
from sklearn_cxr.neural_network._validation import hold_out
from sklearn_cxr.preprocessing import HistogramEqualizer


def patients_and_classes(n_patients=120, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, n_patients)
    groups = np.repeat(np.arange(n_patients), sizes)
    return np.repeat(rng.choice(3, n_patients, p=[0.6, 0.3, 0.1]), sizes), groups


def test_whole_patients_and_shares_of_the_classes():
    codes, groups = patients_and_classes()
    train, valid = hold_out(codes, groups, 0.2, np.random.RandomState(0), caller="X")
    assert sorted([*train, *valid]) == list(range(len(codes)))
    assert not set(groups[train]) & set(groups[valid])
    assert len(valid) / len(codes) == pytest.approx(0.2, abs=0.03)
    for code in range(3):
        share = (codes == code).mean()
        assert (codes[valid] == code).mean() == pytest.approx(share, abs=0.03)
        assert (codes[train] == code).mean() == pytest.approx(share, abs=0.03)


def test_shares_of_several_labels_with_unknowns():
    _, groups = patients_and_classes()
    labels = make_labels(len(groups), n_labels=4)
    train, valid = hold_out(labels, groups, 0.25, np.random.RandomState(0), caller="X")
    assert not set(groups[train]) & set(groups[valid])
    shares = [np.nanmean(labels[side], axis=0) for side in (train, valid)]
    np.testing.assert_allclose(*shares, atol=0.1)


def test_without_groups_images_are_held_out_with_a_warning():
    codes, _ = patients_and_classes()
    with pytest.warns(LeakageRiskWarning, match="CNN holds out images .* groups=patients"):
        train, valid = hold_out(codes, None, 0.2, np.random.RandomState(0), caller="CNN")
    assert len(valid) == pytest.approx(0.2 * len(codes), abs=1)
    assert sorted([*train, *valid]) == list(range(len(codes)))


@pytest.fixture
def recorded(monkeypatch):
    """Groups, labels and sides of every inner fit."""
    calls = []

    def record(codes, groups, *args, **kwargs):
        sides = hold_out(codes, groups, *args, **kwargs)
        calls.append((None if groups is None else np.asarray(groups), codes, sides))
        return sides

    monkeypatch.setattr(_base, "hold_out", record)
    return calls


NETWORKS = {
    "cnn": cnn(max_epochs=1, early_stopping=True, validation_fraction=0.25),
    "transfer": transfer(max_epochs=1, early_stopping=True, validation_fraction=0.25),
}


@pytest.mark.parametrize("routing", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_inner_fits_of_a_search_get_their_patients(recorded, network, routing):
    X, y, patients = make_films(48)
    # Not in order, so that a fit that got the wrong rows is found out.
    order = np.random.default_rng(3).permutation(48)
    X, y, patients = X[order], y[order], patients[order] + 100
    pipe = Pipeline([("equalize", HistogramEqualizer()), ("clf", NETWORKS[network])])
    cv = StratifiedGroupKFold(3)
    search = GridSearchCV(pipe, {"clf__lr": [1e-2, 1e-3]}, cv=cv, error_score="raise")
    with sklearn.config_context(enable_metadata_routing=routing), warnings.catch_warnings():
        warnings.simplefilter("error", LeakageRiskWarning)
        search.fit(X, y, groups=patients, **({} if routing else {"clf__groups": patients}))
    folds = [train for train, _ in cv.split(X, y, patients)]
    expected = [*folds, *folds, np.arange(48)]
    assert len(recorded) == len(expected)
    for (groups, codes, (train, valid)), rows in zip(recorded, expected, strict=True):
        np.testing.assert_array_equal(groups, patients[rows])
        np.testing.assert_array_equal(codes, y[rows])
        assert not set(groups[train]) & set(groups[valid])
        assert abs(codes[train].mean() - 0.5) < 0.1
        assert abs(codes[valid].mean() - 0.5) < 0.17


def test_a_search_that_forgets_the_patients_is_warned(recorded):
    X, y, patients = make_films(48)
    search = GridSearchCV(NETWORKS["cnn"], {"lr": [1e-3]}, cv=StratifiedGroupKFold(2))
    with pytest.warns(LeakageRiskWarning, match="CNNClassifier holds out images"):
        search.fit(X, y, groups=patients)
    assert all(groups is None for groups, _, _ in recorded)


@pytest.mark.parametrize(
    ("params", "share"),
    [
        ({"early_stopping": True}, 0.1),
        ({"lr_schedule": "plateau"}, 0.1),
        ({"validation_fraction": 0.5}, 0.5),
        ({"early_stopping": True, "validation_fraction": 0.3}, 0.3),
    ],
)
@pytest.mark.parametrize("make", [cnn, dense])
def test_when_and_how_much_is_held_out(recorded, make, params, share):
    X, y, patients = make_films(80)
    X = X.reshape(80, -1)
    clf = make(max_epochs=1, **params).fit(X, y, groups=patients)
    ((_, _, (_, valid)),) = recorded
    assert len(valid) == pytest.approx(80 * share, abs=4)
    assert {"valid_loss", "valid_accuracy"} <= set(clf.history_)


def test_nothing_is_held_out_where_nobody_asks(recorded):
    X, y, _ = make_films()
    history = cnn().fit(X, y).history_
    assert not recorded
    assert list(history) == ["train_loss", "train_accuracy", "lr"]


def test_the_split_is_drawn_from_random_state(recorded):
    X, y, patients = make_films(80)
    for seed in (0, 0, 1):
        cnn(max_epochs=1, early_stopping=True, random_state=seed).fit(X, y, groups=patients)
    first, again, other = (sides[1].tolist() for _, _, sides in recorded)
    assert first == again != other
