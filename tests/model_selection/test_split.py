import re
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sklearn_cxr.exceptions import LeakageRiskWarning
from sklearn_cxr.model_selection import patient_train_test_split


def radiographs(n_patients=200, seed=0, classes=("normal", "bacterial", "viral")):
    """Rows, patients and labels of a set where a patient's images mostly share their class."""
    rng = np.random.RandomState(seed)
    images = rng.randint(1, 6, size=n_patients)
    groups = np.repeat([f"p{i:04d}" for i in range(n_patients)], images)
    own = np.repeat(rng.choice(len(classes), size=n_patients, p=[0.3, 0.5, 0.2]), images)
    other = rng.randint(len(classes), size=len(groups))
    y = np.where(rng.random_sample(len(groups)) < 0.8, own, other)
    shuffled = rng.permutation(len(groups))
    return groups[shuffled], np.array(classes)[y[shuffled]]


def class_shares(y):
    return {c: np.mean(np.asarray(y) == c) for c in ("normal", "bacterial", "viral")}


def test_no_patient_on_both_sides_and_rows_complete_and_in_order():
    groups, y = radiographs()
    rows = np.arange(len(groups))
    train, test, g_train, g_test, y_train, y_test = patient_train_test_split(
        rows, groups, y, groups=groups, test_size=0.25, random_state=0
    )
    assert not set(g_train) & set(g_test)
    assert sorted([*train, *test]) == list(rows)
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert (groups[train] == g_train).all() and (y[test] == y_test).all()
    assert (y[train] == y_train).all()


@pytest.mark.parametrize("test_size", [0.1, 0.2, 0.5, 0.8, 37])
def test_size_is_met(test_size):
    groups, y = radiographs()
    wanted = test_size if isinstance(test_size, int) else test_size * len(groups)
    for stratify in (None, y):
        train, test = patient_train_test_split(
            groups, groups=groups, test_size=test_size, stratify=stratify, random_state=3
        )
        assert len(train) + len(test) == len(groups)
        assert abs(len(test) - wanted) <= (1 if stratify is None else 5)


@pytest.mark.parametrize("seed", range(5))
def test_class_shares_within_two_points(seed):
    groups, y = radiographs(seed=seed)
    y_train, y_test = patient_train_test_split(y, groups=groups, stratify=y, random_state=seed)
    whole = class_shares(y)
    for side in (y_train, y_test):
        for name, share in class_shares(side).items():
            assert abs(share - whole[name]) < 0.02
    # Without `stratify` this data set is off by more, so the check above can fail.
    loose = [
        class_shares(patient_train_test_split(y, groups=groups, random_state=s)[1])["viral"]
        for s in range(10)
    ]
    assert np.abs(np.array(loose) - whole["viral"]).max() > 0.02


def test_label_matrix_with_unknown_values_keeps_its_shares():
    rng = np.random.RandomState(0)
    groups = np.repeat(np.arange(300), rng.randint(1, 8, 300))
    y = (rng.random_sample((len(groups), 4)) < [0.05, 0.2, 0.5, 0.9]).astype(float)
    y[rng.random_sample(y.shape) < 0.3] = np.nan
    y_train, y_test = patient_train_test_split(
        pd.DataFrame(y), groups=groups, stratify=pd.DataFrame(y), random_state=0
    )
    for side in (y_train, y_test):
        known = side.notna().mean() - np.mean(~np.isnan(y), axis=0)
        positive = side.mean() - np.nanmean(y, axis=0)
        assert known.abs().max() < 0.02
        assert positive.abs().max() < 0.02


def all_choices(groups, y, test_size):
    """Relative error of the size and largest error of a share, for all sets of test patients."""
    patients, classes = sorted(set(groups)), sorted(set(y))
    found = {}
    for k in range(1, len(patients)):
        for chosen in combinations(patients, k):
            mask = np.isin(groups, chosen)
            sides = [[np.mean(y[m] == c) for c in classes] for m in (mask, ~mask)]
            share = np.abs(np.array(sides) - [np.mean(y == c) for c in classes]).max()
            found[chosen] = abs(mask.mean() - test_size) / test_size, share, np.min(sides) > 0
    return found


@pytest.mark.parametrize("seed", range(12))
def test_as_good_as_trying_all_patients(seed):
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(9), rng.randint(1, 5, 9))
    noise = rng.randint(2, size=len(groups))
    y = np.where(rng.random_sample(len(groups)) < 0.7, groups % 2, noise)
    found = all_choices(groups, y, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        _, test = patient_train_test_split(
            groups, groups=groups, test_size=0.3, stratify=y, random_state=0
        )
    size, share, complete = found[tuple(sorted(set(test)))]
    # Every one of these data sets has a choice of the right size with both classes.
    tolerated = max(0.1, 1 / (0.3 * len(y)))
    good = [share for size, share, complete in found.values() if complete and size <= tolerated]
    best = min(good)
    assert complete and size <= tolerated
    assert share <= max(best + 1e-9, 0.02)


def test_random_state_decides_and_the_global_generator_is_left_alone():
    groups, y = radiographs()
    np.random.seed(0)  # noqa: NPY002 - the legacy generator is what must not be touched
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - see above

    def run(random_state):
        return list(
            patient_train_test_split(
                np.arange(len(y)), groups=groups, stratify=y, random_state=random_state
            )[1]
        )

    assert run(0) == run(0)
    assert run(np.random.RandomState(0)) == run(0)
    assert run(0) != run(1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002 - see above


def test_every_patient_has_a_chance_on_either_side():
    groups = np.repeat(np.arange(20), 3)
    tested = np.zeros(20)
    for seed in range(150):
        tested[patient_train_test_split(groups, groups=groups, random_state=seed)[1]] += 1
    share = tested / 150
    assert share.sum() == pytest.approx(20 * 0.2, abs=0.01)
    # Binomial with p = 0.2 and 150 draws: four standard deviations are 0.13.
    assert share.min() > 0.07 and share.max() < 0.33


@pytest.mark.parametrize(
    "groups",
    [
        ["a", "a", "b", "c", "c", "d"],
        np.array([7, 7, 8, 9, 9, 10]),
        np.array(["x", "x", 3, None or "n", "n", 4.5], dtype=object),
        pd.Series(["a", "a", "b", "c", "c", "d"], index=[5, 4, 3, 2, 1, 0]),
        pd.Series([1, 1, 2, 3, 3, 4], dtype="Int64"),
        pd.Series(["a", "a", "b", "c", "c", "d"], dtype="category"),
        np.array([["a"], ["a"], ["b"], ["c"], ["c"], ["d"]]),
        [("a", 1), ("a", 1), ("b", 1), ("b", 2), ("b", 2), ("c", 1)],
    ],
    ids=["list", "int", "object", "series", "Int64", "category", "column", "tuples"],
)
def test_groups_of_all_kinds(groups):
    train, test = patient_train_test_split(
        np.arange(6), groups=groups, test_size=2, random_state=0
    )
    assert len(test) == 2 and len(train) == 4
    # Rows 0 and 1 are one patient, rows 3 and 4 another.
    assert ({0, 1} <= set(test)) or not ({0, 1} & set(test))
    assert ({3, 4} <= set(test)) or not ({3, 4} & set(test))


def test_numbers_and_strings_stay_different_patients():
    # As a plain array, all four would become the string "1".
    with pytest.warns(LeakageRiskWarning, match="such as 1 and '1'"):
        train, test = patient_train_test_split(
            [1, "1"], groups=[1, "1"], test_size=1, random_state=0
        )
    assert len(train) == len(test) == 1


def test_containers_keep_their_type():
    groups = list("aabbcc")
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    frame = pd.DataFrame({"path": [f"{i}.png" for i in range(6)], "age": range(6)})
    paths = np.array([f"{i}.png" for i in range(6)], dtype=object)
    matrix = sparse.coo_matrix(np.eye(6))
    out = patient_train_test_split(
        images,
        frame,
        frame["path"],
        paths,
        list(paths),
        matrix,
        groups=groups,
        test_size=2,
        random_state=0,
    )
    tests = out[1::2]
    row = tests[1]["age"].to_numpy()
    assert len(row) == 2 and groups[row[0]] == groups[row[1]]
    assert tests[0].dtype == np.uint8 and (tests[0] == images[row]).all()
    assert isinstance(tests[2], pd.Series) and list(tests[2]) == list(paths[row])
    assert tests[3].dtype == object and (tests[3] == paths[row]).all()
    assert isinstance(tests[4], list) and tests[4] == list(paths[row])
    assert (tests[5].toarray() == np.eye(6)[row]).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"groups": None}, "groups=None"),
        ({"groups": ["a", "b", "c"]}, "3 patient ids in groups for 4 images"),
        ({"groups": ["a", None, "b", "c"]}, r"1 images without a patient id .*row 1"),
        ({"groups": [1.0, 2.0, np.nan, np.nan]}, r"2 images without a patient id .*row 2"),
        ({"groups": pd.Series([1, 2, pd.NA, 3], dtype="Int64")}, "without a patient id"),
        ({"groups": ["a"] * 4}, "at least two patients"),
        ({"groups": np.ones((4, 2))}, r"shape \(4, 2\)"),
        ({"test_size": 4}, "at most 3"),
        ({"test_size": 1.0}, "test_size"),
        ({"test_size": 0}, "test_size"),
        ({"test_size": True}, "test_size"),
        ({"test_size": -0.1}, "test_size"),
        ({"stratify": ["n", "n", "p"]}, r"labels of shape \(3,\) for 4 images"),
        ({"stratify": [0.1, 0.2, 0.3, 0.4]}, "continuous"),
        ({"stratify": [np.nan] * 4}, "all unknown"),
        ({"stratify": [[0, 2], [1, 0], [0, 0], [1, 1]]}, r"\[2.0\]; expected 0, 1 or NaN"),
        ({"stratify": [["a", "b"]] * 4}, "not numeric"),
    ],
)
def test_errors_say_what_was_got(kwargs, message):
    with pytest.raises(ValueError, match=message):
        patient_train_test_split(
            [1, 2, 3, 4], **{"groups": ["a", "b", "c", "d"], "random_state": 0, **kwargs}
        )


def test_groups_are_required_and_something_to_split():
    with pytest.raises(TypeError, match="groups"):
        patient_train_test_split([1, 2])
    with pytest.raises(ValueError, match="no array"):
        patient_train_test_split(groups=[1, 2])
    with pytest.raises(ValueError, match="got None to split"):
        patient_train_test_split([1, 2], None, groups=[1, 2])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        patient_train_test_split([1, 2], [1, 2, 3], groups=[1, 2])


def test_warning_when_one_patient_holds_most_images():
    groups = ["big"] * 90 + [f"p{i}" for i in range(10)]
    with pytest.warns(UserWarning, match="test side holds 10 images instead of 50") as record:
        _, test = patient_train_test_split(groups, groups=groups, test_size=0.5, random_state=0)
    assert record[0].filename == __file__
    assert sorted(test) == sorted(set(groups) - {"big"})


def test_warning_when_a_class_has_one_patient():
    groups = np.repeat(np.arange(20), 2)
    y = np.where(groups == 4, "rare", "common")
    with pytest.warns(UserWarning, match="side has no class 'rare'") as record:
        patient_train_test_split(y, groups=groups, stratify=y, random_state=0)
    assert len(record) == 1 and record[0].filename == __file__


def test_size_goes_before_classes_on_a_side_of_fewer_patients_than_classes():
    groups, y = radiographs()
    with pytest.warns(UserWarning, match="test side has no class"):
        _, test = patient_train_test_split(
            y, groups=groups, test_size=1, stratify=y, random_state=0
        )
    assert len(test) <= 2


def test_a_class_of_two_patients_stands_on_both_sides():
    groups = np.repeat(np.arange(40), 2)
    y = np.isin(groups, [3, 30]).astype(int)
    for seed in range(5):
        y_train, y_test = patient_train_test_split(
            y, groups=groups, stratify=y, test_size=0.2, random_state=seed
        )
        assert y_train.sum() == y_test.sum() == 2


def test_unknown_class_of_some_images_is_no_class():
    groups = np.arange(40)
    y = np.array(["normal"] * 20 + ["ill"] * 10 + [None] * 10, dtype=object)
    _, y_test = patient_train_test_split(
        y, groups=groups, stratify=y, test_size=0.5, random_state=0
    )
    counts = pd.Series(y_test).value_counts(dropna=False)
    assert counts["normal"] == 10 and counts["ill"] == 5 and y_test.tolist().count(None) == 5


def test_real_pneumonia_images(data_root):
    files = sorted((data_root / "chest_xray" / "train").glob("*/*.jpeg"))
    numbers = [re.search(r"(person|IM-)(\d+)", file.name) for file in files]
    groups = [found.group(1) + found.group(2) for found in numbers]
    y = np.array(["normal" if f.parent.name == "NORMAL" else f.name.split("_")[1] for f in files])
    train, test, y_train, y_test = patient_train_test_split(
        groups, y, groups=groups, stratify=y, test_size=0.2, random_state=0
    )
    assert len(train) + len(test) == 5216
    assert not set(train) & set(test)
    assert abs(len(test) / 5216 - 0.2) < 0.001
    for name in ("normal", "bacteria", "virus"):
        assert abs(np.mean(y_test == name) - np.mean(y == name)) < 0.001
        assert abs(np.mean(y_train == name) - np.mean(y == name)) < 0.001
