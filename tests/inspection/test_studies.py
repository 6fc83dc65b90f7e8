import matplotlib
import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold, StratifiedGroupKFold

from sklearn_cxr.inspection import PatientLearningCurveDisplay, learning_curve_by_patients

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")

FITS = []


@pytest.fixture(autouse=True)
def forget():
    FITS.clear()
    yield
    plt.close("all")


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers the rows that it was fitted on; a row's only feature is its number."""

    __metadata_request__fit = {"groups": True}

    def fit(self, X, y, groups=None):
        self.classes_ = np.unique(y)
        FITS.append((np.asarray(X)[:, 0].astype(int), groups))
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


@pytest.fixture
def films():
    groups = np.repeat(np.arange(40), 3)
    y = (groups % 4 == 0).astype(int)
    return np.arange(120.0)[:, None], y, groups


@pytest.mark.parametrize("routing", [False, True])
def test_patients_are_whole_nested_and_never_on_both_sides(films, routing):
    X, y, groups = films
    cv = StratifiedGroupKFold(4)
    params = None if routing else {"groups": groups}
    with sklearn.config_context(enable_metadata_routing=routing):
        curve = learning_curve_by_patients(
            Recorder(),
            X,
            y,
            groups=groups,
            n_patients=[4, 12, 30],
            cv=cv,
            random_state=0,
            params=params,
        )
    assert curve["n_patients"].tolist() == [4] * 4 + [12] * 4 + [30] * 4
    assert curve["n_images"].tolist() == [12] * 4 + [36] * 4 + [90] * 4
    tests = [set(test) for _, test in cv.split(X, y, groups)]
    for fold in range(4):
        sets = [FITS[3 * fold + number] for number in range(3)]
        for (rows, given), size in zip(sets, (4, 12, 30), strict=True):
            assert len(np.unique(groups[rows])) == size
            assert np.array_equal(given, groups[rows])
            assert not tests[fold] & set(rows.tolist())
            # A quarter of the patients is ill, in every beginning of the order.
            assert abs(y[rows].mean() - 0.25) <= 0.1
        assert set(sets[0][0]) < set(sets[1][0]) < set(sets[2][0])


def test_shares_and_scores(films):
    X, y, groups = films
    curve = learning_curve_by_patients(
        Recorder(),
        X,
        y,
        groups=groups,
        n_patients=(0.5, 1.0),
        cv=4,
        scoring="accuracy",
        random_state=0,
        params={"groups": groups},
    )
    assert sorted(set(curve["n_patients"])) == [15, 30]
    # The recorder answers 0: its accuracy is the share of the well.
    np.testing.assert_allclose(curve["test_score"].mean(), 0.75, atol=0.03)


def test_it_is_governed(films):
    X, y, groups = films
    for _ in range(2):
        learning_curve_by_patients(Recorder(), X, y, groups=groups, cv=3, random_state=1)
    half = len(FITS) // 2
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(FITS[:half], FITS[half:], strict=True))


def test_labels_of_several_columns(films):
    X, y, groups = films
    Y = np.column_stack([y, 1 - y]).astype(float)
    Y[0, 0] = np.nan
    folds = list(StratifiedGroupKFold(3).split(X, y, groups))
    curve = learning_curve_by_patients(
        Labels(), X, Y, groups=groups, n_patients=[5], cv=folds, scoring=lambda *_: 0.5
    )
    assert curve["test_score"].tolist() == [0.5] * 3


def test_several_labels_have_folds_of_their_own(films):
    X, y, groups = films
    Y = np.column_stack([y, groups % 8 == 1]).astype(float)
    Y[0, 0] = np.nan
    seen = []

    def scorer(estimator, X, Y):
        seen.append(np.nansum(Y, axis=0))
        return 0.5

    curve = learning_curve_by_patients(
        Labels(), X, Y, groups=groups, n_patients=[12], cv=5, scoring=scorer, random_state=0
    )
    assert len(curve) == 5
    # Each fold has a fifth of the 10 and of the 5 patients; of twelve in training some have each.
    assert all((found >= [3, 3]).all() for found in seen)


@pytest.mark.parametrize("kind", [float, str])
def test_numbers_and_words_are_stratified_alike(films, kind):
    X, y, groups = films
    given = {"groups": groups, "n_patients": [4, 8], "cv": StratifiedGroupKFold(4)}
    given["scoring"] = lambda *_: 0.5
    learning_curve_by_patients(Recorder(), X, y.astype(kind), random_state=0, **given)
    for rows, _ in FITS:
        assert y[rows].mean() == 0.25


@pytest.mark.parametrize("seed", range(5))
def test_every_beginning_has_each_class(films, seed):
    X, y, groups = films
    rare = np.where(groups < 8, 2, y)
    curve = learning_curve_by_patients(
        Recorder(), X, rare, groups=groups, cv=4, random_state=seed, n_patients=[0.01, 0.1]
    )
    assert sorted(set(curve["n_patients"])) == [3]
    assert all(set(rare[rows]) == {0, 1, 2} for rows, _ in FITS)
    with pytest.raises(ValueError, match=r"n_patients with 2, and in fold 0 .* no film of the"):
        learning_curve_by_patients(
            Recorder(), X, rare, groups=groups, cv=4, n_patients=[2], random_state=seed
        )


class Labels(BaseEstimator):
    def fit(self, X, Y):
        return self


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_patients": [41]}, "n_patients from 41 to 41; expected 1 to"),
        ({"n_patients": [0]}, "n_patients from 0 to 0"),
        ({"n_patients": [0.5, 1.5]}, "shares from 0.5 to 1.5"),
        ({"n_patients": []}, "expected a list of numbers"),
        ({"groups": None}, "groups=None"),
        ({"groups": np.arange(5)}, "5 patient ids in groups for 120 images"),
        ({"cv": list(KFold(4, shuffle=True, random_state=0).split(range(120)))}, "on both sides"),
    ],
)
def test_errors(films, given, message):
    X, y, groups = films
    given = {"groups": groups, "cv": 4, **given}
    with pytest.raises(ValueError, match=message):
        learning_curve_by_patients(Recorder(), X, y, **given)


def test_the_picture(films):
    X, y, groups = films
    given = {"groups": groups, "n_patients": [4, 30], "cv": 4, "random_state": 0}
    display = PatientLearningCurveDisplay.from_estimator(
        Recorder(), X, y, scoring="accuracy", **given
    )
    line = display.lines_["test"].lines[0]
    expected = display.curve.groupby("n_patients")["test_score"].mean()
    np.testing.assert_allclose(line.get_xdata(), [4, 30])
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert display.ax_.get_ylabel().startswith("accuracy")
    again = PatientLearningCurveDisplay.from_curve(display.curve).plot(ax=display.ax_, name="b")
    assert [text.get_text() for text in again.ax_.get_legend().get_texts()] == [
        "test",
        "training",
        "b, test",
        "b, training",
    ]
