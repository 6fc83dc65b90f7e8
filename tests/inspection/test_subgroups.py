import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from sklearn_cxr.inspection import SubgroupDisplay, subgroup_report
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.metrics import roc_auc_interval

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def films():
    rng = np.random.RandomState(0)
    n = 300
    y = rng.randint(2, size=n)
    score = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.5)))
    frame = pd.DataFrame(
        {
            "age": rng.randint(1, 95, size=n).astype(float),
            "sex": rng.choice(["F", "M"], size=n),
            "view": rng.choice(["PA", "AP"], size=n),
        }
    )
    return y, score, frame, np.repeat(np.arange(100), 3)


def test_counts_and_shares_of_every_part(films):
    y, score, frame, groups = films
    report = subgroup_report(y, score, frame=frame, groups=groups, threshold=0.4)
    called = score >= 0.4
    for column, value in [("sex", "F"), ("view", "AP"), ("all", "all")]:
        part = np.ones(300, bool) if column == "all" else (frame[column] == value).to_numpy()
        row = report.loc[(column, value)]
        assert row["n_images"] == part.sum()
        assert row["n_patients"] == len(set(groups[part]))
        assert row["n_positive"] == y[part].sum()
        np.testing.assert_allclose(row["accuracy"], np.mean(called[part] == y[part]))
        np.testing.assert_allclose(row["sensitivity"], called[part & (y == 1)].mean())
        np.testing.assert_allclose(row["specificity"], 1 - called[part & (y == 0)].mean())
        np.testing.assert_allclose(row["roc_auc"], roc_auc_score(y[part], score[part]))
    ages = frame["age"]
    for name, low, high in (
        ("< 0", -1, 0),
        ("0-17", 0, 18),
        ("60-79", 60, 80),
        (">= 80", 80, 200),
    ):
        n = int(((ages >= low) & (ages < high)).sum())
        assert report.index.isin([("age", name)]).any() == (n > 0)
        assert n == 0 or report.loc[("age", name), "n_images"] == n
    assert report.loc["age", "n_images"].sum() == 300


def test_intervals_without_patients_are_wilsons(films):
    y, score, frame, _ = films
    given = {"frame": frame, "columns": ["sex"], "confidence": 0.9}
    report = subgroup_report(y, score, **given)
    reports = {"logit": report, None: subgroup_report(y, score, transform=None, **given)}
    for value in "FM":
        part = (frame["sex"] == value).to_numpy()
        hits = int(((score[part] >= 0.5) == y[part]).sum())
        limits = binomtest(hits, int(part.sum())).proportion_ci(0.9, method="wilson")
        row = report.loc[("sex", value)]
        np.testing.assert_allclose([row["accuracy_low"], row["accuracy_high"]], limits)
        for transform in ("logit", None):
            auc = roc_auc_interval(y[part], score[part], confidence=0.9, transform=transform)
            row = reports[transform].loc[("sex", value)]
            np.testing.assert_allclose([row["roc_auc_low"], row["roc_auc_high"]], auc[1:3])
    assert report["n_patients"].isna().all()


def test_films_of_one_patient_count_once(films):
    y, score, frame, _ = films
    tripled = {"frame": pd.concat([frame] * 3, ignore_index=True), "columns": ["sex"]}
    single = subgroup_report(y, score, frame=frame, columns=["sex"])
    triple = subgroup_report(
        np.tile(y, 3), np.tile(score, 3), groups=np.tile(np.arange(300), 3), **tripled
    )
    for end in ("low", "high"):
        np.testing.assert_allclose(
            triple[f"accuracy_{end}"], single[f"accuracy_{end}"], atol=0.002
        )


def test_missing_values_are_a_part_of_their_own(films):
    y, score, frame, _ = films
    frame.loc[:9, "age"] = np.nan
    frame["sex"] = frame["sex"].astype(object)
    frame.loc[290:, "sex"] = None
    report = subgroup_report(y, score, frame=frame)
    assert report.loc[("age", "unknown"), "n_images"] == 10
    assert report.loc[("sex", "unknown"), "n_images"] == 10
    assert "unknown" not in report.loc["view"].index


def test_a_part_of_one_class_or_one_patient(films):
    y, score, frame, groups = films
    frame["ward"] = "rest"
    frame.loc[np.flatnonzero(y == 1)[:5], "ward"] = "ill only"
    frame.loc[groups == groups[np.flatnonzero(y == 0)[-1]], "ward"] = "one"
    report = subgroup_report(y, score, frame=frame, columns=["ward"], groups=groups)
    row = report.loc[("ward", "ill only")]
    assert np.isnan(row["roc_auc"])
    assert np.isnan(row["specificity"])
    assert row["sensitivity"] == row["accuracy"]
    one = report.loc[("ward", "one")]
    assert one["n_patients"] == 1
    assert np.isnan(one["roc_auc_low"])
    assert one["accuracy_low"] < one["accuracy"] or one["accuracy"] == 0
    display = SubgroupDisplay(report).plot()
    assert [text.get_text() for text in display.axes_[2].texts] == ["one class only"]


def test_bins_quarters_and_few_values(films):
    y, score, frame, _ = films
    frame["pixels"] = np.arange(300)
    frame["visit"] = np.arange(300) % 3
    columns = ["age", "pixels", "visit"]
    report = subgroup_report(y, score, frame=frame, columns=columns, bins={"age": [50.5, 70]})
    assert report.loc["age"].index.tolist() == ["< 50.5", "50.5 to < 70", ">= 70"]
    assert report.loc["pixels", "n_images"].tolist() == [75] * 4
    assert report.loc["visit"].index.tolist() == ["0", "1", "2"]


def test_words_and_another_positive_class(films):
    y, score, frame, _ = films
    words = np.where(y == 1, "ill", "well")
    plain = subgroup_report(y, score, frame=frame)
    report = subgroup_report(words, score, frame=frame, pos_label="ill")
    pd.testing.assert_frame_equal(report, plain)


def test_a_frame_keeps_its_index_out_of_it(films):
    y, score, frame, _ = films
    plain = subgroup_report(y, score, frame=frame)
    shuffled = subgroup_report(y, score, frame=frame.set_index(frame.index[::-1]))
    pd.testing.assert_frame_equal(shuffled, plain)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": ["ward"]}, r"lacks \['ward'\]"),
        ({"frame": pd.DataFrame({"sex": ["F"]})}, "1 rows for 300 films"),
        ({"groups": np.arange(5)}, "5 patient ids in groups for 300 images"),
        ({"score": np.full(300, np.nan)}, "300 scores that are NaN"),
        ({"score": np.zeros((300, 2))}, r"shape \(300, 2\)"),
        ({"y": np.zeros(300)}, "class 0.0 only"),
        ({"y": np.arange(300) % 3}, "expected two"),
        ({"bins": {"sex": [1, 2]}}, "holds no numbers"),
        ({"bins": {"age": [2, 1]}}, "ascend"),
        ({"bins": {"ward": [1, 2]}}, r"bins for \['ward'\]"),
        ({"pos_label": "ill"}, "expected two|does not know"),
        ({"y": pd.Series(["ill", None] * 150, dtype=object)}, "150 films without a class"),
        ({"y": ["ill", np.nan] * 150}, "150 films without a class"),
        ({"y": pd.Series(["ill"] * 300, dtype=object)}, "class 'ill' only"),
        ({"y": pd.Series(["ill", 3] * 150, dtype=object)}, "have no order"),
    ],
)
def test_errors(films, given, message):
    y, score, frame, _ = films
    given = {"y": y, "score": score, "frame": frame, **given}
    with pytest.raises(ValueError, match=message):
        subgroup_report(given.pop("y"), given.pop("score"), **given)


def test_the_picture(films):
    y, score, frame, groups = films
    display = SubgroupDisplay.from_predictions(
        y, score, frame=frame, groups=groups, columns=["sex"], metrics=["accuracy", "roc_auc"]
    )
    assert [axis.get_title() for axis in display.axes_] == ["accuracy", "AUC"]
    labels = [text.get_text() for text in display.axes_[0].get_yticklabels()]
    counts = display.report["n_images"].tolist()
    assert labels == [f"all films ({counts[0]})", f"sex F ({counts[1]})", f"sex M ({counts[2]})"]
    with pytest.raises(ValueError, match=r"metrics=\['f1'\]"):
        display.plot(metrics=["f1"])


def test_the_picture_of_an_estimator_uses_its_threshold(films):
    y, score, frame, _ = films
    X = np.column_stack([score, 1 - score])
    model = PixelLogisticRegression().fit(X, y)
    display = SubgroupDisplay.from_estimator(model, X, y, frame=frame)
    expected = (model.predict(X) == y).mean()
    np.testing.assert_allclose(display.report.loc[("all", "all"), "accuracy"], expected)


@pytest.mark.parametrize(
    "values",
    [
        pd.date_range("2020-01-01", periods=300),
        [f"{age:03d}Y" for age in range(300)],
        [f"p{i}" for i in range(300)],
    ],
)
def test_a_column_that_names_every_film_is_refused(films, values):
    y, score, frame, _ = films
    frame["column"] = values
    with pytest.raises(ValueError, match=r"'column' with 300 different values.*pass bins"):
        subgroup_report(y, score, frame=frame, columns=["column"])


def test_a_part_that_says_unknown_is_that_of_the_missing_values(films):
    y, score, frame, _ = films
    sex = frame["sex"].astype(object)
    sex[:20], sex[20:50] = None, "unknown"
    report = subgroup_report(y, score, frame=frame.assign(sex=sex), columns=["sex"])
    assert report.index.is_unique
    assert report.loc[("sex", "unknown"), "n_images"] == 50


def test_edges_of_many_digits_are_told_apart(films):
    y, score, frame, _ = films
    days = pd.Series(12345670 + np.arange(300))
    report = subgroup_report(y, score, frame=frame.assign(day=days), columns=["day"])
    assert report.index.is_unique
    assert report.loc["day", "n_images"].tolist() == [75] * 4


def test_whole_edges_are_named_whole(films):
    y, score, frame, _ = films
    frame = frame.assign(
        near=12345670.0 + np.repeat([0, 20, 40], 100),
        day=20190101 + 10000 * (np.arange(300) % 3),
        size=np.resize([5e3, 5e5, 1.5e6, 3e6], 300),
        part=np.resize([12345670.5, 12345695.0], 300),
    )
    bins = {
        "near": [12345670, 12345690, 12345709],
        "day": [20190101, 20200101, 20210101],
        "size": [0, 1e5, 1e6, 2e6],
        "part": [12345670, 12345690, 12345709],
    }
    report = subgroup_report(y, score, frame=frame, columns=list(bins), bins=bins)
    assert {column: report.loc[column].index.tolist() for column in bins} == {
        "near": ["12345670-12345689", "12345690-12345708", ">= 12345709"],
        "day": ["20190101-20200100", "20200101-20210100", ">= 20210101"],
        "size": ["0-99999", "100000-999999", "1000000-1999999", ">= 2000000"],
        "part": ["12345670 to < 12345690", "12345690 to < 12345709"],
    }


def test_values_that_read_alike_are_one_part(films):
    y, score, frame, _ = films
    view = pd.Series(np.where(np.arange(300) < 120, 1, 2), dtype=object)
    view[:50] = "1"
    report = subgroup_report(y, score, frame=frame.assign(view=view), columns=["view"])
    assert report.loc["view", "n_images"].to_dict() == {"1": 120, "2": 180}
