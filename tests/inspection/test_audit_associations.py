import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from sklearn_cxr.inspection._audit_associations import associate
from sklearn_cxr.inspection._audit_tables import read_groups, read_labels


def run(variables, y, patients=None):
    n = len(next(iter(variables.values())))
    codes, _ = read_groups(patients, n, caller="test")
    table = associate(pd.DataFrame(variables), read_labels(y, n, caller="test"), codes)
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
    table = run({"same": np.ones(40), "names": [f"id{i}" for i in range(40)]}, y)
    assert len(table) == 0
    assert len(run({"value": np.arange(40.0)}, np.zeros(40))) == 0
    assert len(run({"value": np.arange(6.0)}, [0, 1] * 3)) == 0


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
