import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from sklearn_cxr.inspection._audit_associations import associate
from sklearn_cxr.inspection._audit_tables import read_groups, read_labels


def run(variables, y, patients=None, left_out=None):
    n = len(next(iter(variables.values())))
    codes, _ = read_groups(patients, n, caller="test")
    labels = read_labels(y, n, caller="test")
    table = associate(pd.DataFrame(variables), labels, codes, left_out)
    return table.set_index("variable")


def test_numbers_of_two_classes():
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=80)
    value = rng.normal(size=80) + 0.7 * y
    row = run({"value": value}, y).loc["value"]
    assert row["effect_size"] == pytest.approx(2 * roc_auc_score(y, value) - 1)
    assert row["p_value"] == pytest.approx(
        stats.mannwhitneyu(value[y == 1], value[y == 0], method="asymptotic").pvalue
    )


def test_numbers_of_three_classes():
    rng = np.random.RandomState(0)
    y = rng.choice(["a", "b", "c"], size=90)
    value = rng.normal(size=90) + (y == "b")
    row = run({"value": value}, y).loc["value"]
    expected = stats.kruskal(*(value[y == name] for name in "abc"))
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert row["effect_size"] == pytest.approx(np.sqrt(expected.statistic / 89))
    assert row["by_class"].startswith(f"median a: {np.median(value[y == 'a']):.4g}, b: ")


def test_categories():
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=200)
    view = np.where(rng.uniform(size=200) < 0.3 + 0.4 * y, "AP", "PA")
    row = run({"view": view}, y).loc["view"]
    n11, n10 = ((view == "AP") & (y == 1)).sum(), ((view == "PA") & (y == 1)).sum()
    n01, n00 = ((view == "AP") & (y == 0)).sum(), ((view == "PA") & (y == 0)).sum()
    margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    phi2 = (n11 * n00 - n10 * n01) ** 2 / margins
    # Bergsma's correction of a table of two by two.
    corrected = np.sqrt(max(0, phi2 - 1 / 199) / (1 - 1 / 199))
    assert row["effect_size"] == pytest.approx(corrected)
    assert row["p_value"] == pytest.approx(stats.chi2.sf(200 * phi2, 1))


def test_films_of_a_patient_count_once():
    rng = np.random.RandomState(0)
    y = np.arange(40) % 2
    value = rng.normal(size=40) + y
    view = rng.choice(["AP", "PA"], size=40)
    once = run({"value": value, "view": view}, y, np.arange(40))
    many = np.repeat(np.arange(40), 5)
    again = run({"value": value[many], "view": view[many]}, y[many], many)
    pd.testing.assert_frame_equal(once, again)
    assert set(once["n"]) == {40}
    assert run({"value": value[many]}, y[many])["p_value"].iloc[0] < once["p_value"].min()


def test_commonest_category_of_a_patient():
    patients = np.repeat(np.arange(20), 3)
    view = np.tile(["AP", "PA", "PA"], 20)
    view[::6] = "PA"
    view[1::6] = view[2::6] = "AP"
    y = np.repeat(np.arange(20) % 2, 3)
    # AP in patients 0, 2, ... by two films of three: the other class exactly.
    assert run({"view": view}, y, patients).loc["view", "effect_size"] == pytest.approx(1)


def test_missing_values_are_tested_as_such():
    y = np.arange(40) % 2
    age = np.where(y == 1, np.nan, np.arange(40.0))
    table = run({"age": age, "sex": [None] * 40}, y)
    assert list(table.index) == ["age given"]
    assert table.loc["age given", "effect_size"] == pytest.approx(1)


def test_p_values_are_adjusted_and_strongest_come_first():
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=60)
    table = run({f"v{i}": rng.normal(size=60) + (i == 3) * y for i in range(6)}, y)
    assert table.index[0] == "v3"
    assert table["effect_size"].is_monotonic_decreasing
    p = table["p_value"].sort_values()
    by_hand = np.minimum.accumulate((p * 6 / np.arange(1, 7))[::-1])[::-1].clip(upper=1)
    pd.testing.assert_series_equal(table["p_adjusted"].loc[p.index], by_hand, check_names=False)


def test_what_cannot_be_tested_is_left_out():
    y = np.arange(40) % 2
    why = {}
    variables = {
        "same": np.ones(40),
        "names": [f"id{i}" for i in range(40)],
        "absent": [None] * 40,
        "here": [None, 1.0] * 20,
    }
    assert set(run(variables, y, left_out=why).index) == {"here given"}
    assert why == {
        "same": "one value only",
        "names": "40 different values, each of one patient: an id, not a category",
        "absent": "known of 0 patients only, fewer than 8",
        "here": "known in one class only",
    }
    assert len(run({"value": np.arange(40.0)}, np.zeros(40))) == 0
    assert len(run({"value": np.arange(6.0)}, [0, 1] * 3, left_out=why)) == 0
    assert why["value"] == "known of 6 patients only, fewer than 8"


def corrected_v(counts):
    """Cramér's V of a table, with Bergsma's correction."""
    counts = np.asarray(counts, float)
    n, (r, c) = counts.sum(), counts.shape
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / n
    phi = max(0, ((counts - expected) ** 2 / expected).sum() / n - (r - 1) * (c - 1) / (n - 1))
    return np.sqrt(phi / min(r - 1 - (r - 1) ** 2 / (n - 1), c - 1 - (c - 1) ** 2 / (n - 1)))


def test_of_many_categories_the_largest_stand_beside_the_rest():
    # 30 devices of four patients each and 10 of two; the class goes with every second device.
    device = np.r_[np.repeat(np.arange(30), 4), np.repeat(np.arange(30, 40), 2)]
    y = device % 2
    row = run({"device": [f"device {d}" for d in device]}, y).loc["device"]
    counts = np.zeros((2, 31))
    np.add.at(counts, (y, np.minimum(device, 30)), 1)
    assert row["effect_size"] == pytest.approx(corrected_v(counts))
    assert row["effect_size"] > 0.8 and row["n"] == 140
    assert row["by_class"].endswith("(and 25 more values)")
    assert row["by_class"].count("device") <= 12


@pytest.mark.parametrize("dtype", [int, float, "Int64", object])
def test_whole_numbers_may_be_codes(dtype):
    hospital = np.tile([1, 2, 3], 40)
    y = (hospital == 2).astype(int)
    row = run({"hospital": pd.Series(hospital).astype(dtype)}, y).loc["hospital"]
    assert row["test"] == "chi-squared"
    table = pd.crosstab(y, hospital).to_numpy()
    assert row["effect_size"] == pytest.approx(corrected_v(table))
    # Two tests were made.
    assert row["p_value"] == pytest.approx(2 * stats.chi2.sf(120, 2))
    assert row["by_class"] == "0: 1 50%, 2 0%, 3 50%; 1: 1 0%, 2 100%, 3 0%"
    age = np.r_[np.arange(20, 40), np.arange(22, 42)]
    row = run({"age": pd.Series(age).astype(dtype)}, np.repeat([0, 1], 20)).loc["age"]
    assert row["test"] == "Mann-Whitney U"


@pytest.mark.parametrize(
    "write",
    [
        lambda days: pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(days, unit="D")),
        lambda days: (
            pd.Series(pd.to_datetime("2020-01-01") + pd.to_timedelta(days, unit="D"))
            .dt.tz_localize("UTC")
            .astype(object)
        ),
        lambda days: [str(np.datetime64("2020-01-01") + day) for day in days],
        lambda days: pd.Series(pd.period_range("2020-01-01", periods=200, freq="D")[days]),
    ],
)
def test_dates_are_numbers(write):
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=80)
    days = rng.permutation(100)[:80] + 90 * y
    row = run({"date": write(days)}, y).loc["date"]
    assert row["effect_size"] == pytest.approx(2 * roc_auc_score(y, days) - 1)
    half = np.datetime64("2020-01-01") + round(np.median(days[y == 1]))
    assert row["by_class"].endswith(f"1: {half}")


def test_ages_in_words_are_numbers():
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=120)
    age = rng.randint(1, 80, size=120) + 5 * y
    words = [f"{a:03d}Y" for a in age]
    words[3] = "011M"
    age = age.astype(float)
    age[3] = 11 / 12
    row = run({"age": words}, y).loc["age"]
    assert row["effect_size"] == pytest.approx(abs(2 * roc_auc_score(y, age) - 1))
    pounds = run({"kV": [str(a) for a in age]}, y).loc["kV"]
    assert pounds["effect_size"] == pytest.approx(row["effect_size"])
    wait = run({"wait": pd.to_timedelta(age, unit="D")}, y).loc["wait"]
    assert wait["effect_size"] == pytest.approx(row["effect_size"])


def test_unknown_labels_are_left_out():
    y = pd.DataFrame({"a": [0.0, 1] * 10, "b": [1.0] * 10 + [np.nan] * 5 + [0.0] * 5})
    value = np.r_[np.arange(10.0), np.full(5, 100.0), np.arange(10.0, 15)]
    table = run({"value": value}, y).set_index("label")
    assert table.loc["b", "n"] == 15
    assert table.loc["b", "effect_size"] == pytest.approx(1)


def test_labels_in_order_and_in_words():
    labels = read_labels(np.array(["viral", None, "normal"], dtype=object), 3, caller="test")
    assert labels.classes == [["normal", "viral"]]
    assert labels.codes[:, 0].tolist() == [1, -1, 0]
    assert labels.text.tolist() == ["viral", "unknown", "normal"]
    with pytest.raises(ValueError, match="Bin a measured quantity"):
        read_labels(np.arange(300) / 7, 300, caller="test")
