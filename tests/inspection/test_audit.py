import io

import numpy as np
import pandas as pd
import pytest
from audit_common import audit, checks, rows_of, split_names
from PIL import Image
from sklearn.model_selection import GroupKFold, KFold

from sklearn_cxr.datasets import make_chest_xrays


@pytest.fixture(scope="module")
def films():
    return make_chest_xrays(90, image_size=112, view="mixed", random_state=0)


@pytest.mark.parametrize(
    ("seed", "options"),
    [(0, {}), (1, {"view": "mixed"}), (2, {"marker": "random"}), (3, {"image_size": 64})],
)
def test_clean_films_give_neither_error_nor_warning(seed, options):
    clean = make_chest_xrays(**{"n_samples": 120, "image_size": 112, **options}, random_state=seed)
    by_patient = list(GroupKFold(3).split(clean.images, groups=clean.groups))
    report = audit(clean, splits=by_patient)
    assert checks(report, "error", "warning") == set()
    assert report.raise_for("warning") is report


def blank(images):
    images[5] = 90


def invert(images):
    images[5] = 255 - images[5]


def turn(images):
    images[5] = np.rot90(images[5])


def replace_by_lateral(images):
    # One lung field, seen from the side: spine at the edge, heart in front.
    row, column = np.mgrid[:112, :112]
    film = np.full((112, 112), 150.0)
    film[((row - 50) / 42) ** 2 + ((column - 50) / 40) ** 2 < 1] = 60
    film[:, 90:] = 220
    images[5] = film


def copy(images):
    images[5] = images[40]


def copy_reencoded(images):
    stream = io.BytesIO()
    Image.fromarray(images[40]).save(stream, "JPEG", quality=60)
    images[5] = np.asarray(Image.open(stream))


def copy_brightened(images):
    images[5] = 255 * (images[40] / 255) ** 0.7


@pytest.mark.parametrize(
    ("plant", "check", "severity"),
    [
        (blank, "blank", "error"),
        (invert, "inverted", "warning"),
        (turn, "turned", "warning"),
        (replace_by_lateral, "unlike_others", "warning"),
    ],
)
def test_a_spoiled_film_is_found(films, plant, check, severity):
    images = films.images.copy()
    plant(images)
    report = audit(films, images)
    assert rows_of(report, check) == [5]
    assert check in checks(report, severity)
    others = checks(report, "error", "warning") - {check}
    assert others == set()


@pytest.mark.parametrize(
    ("plant", "name", "severity"),
    [
        (copy, "identical", "error"),
        (copy_reencoded, "near_identical", "warning"),
        (copy_brightened, "near_identical", "warning"),
    ],
)
def test_copies_are_found_across_patients_splits_and_labels(films, plant, name, severity):
    images = films.images.copy()
    plant(images)
    assert films.groups[5] != films.groups[40] and films.target[5] != films.target[40]
    report = audit(films, images, splits=np.where(np.arange(90) < 20, "test", "train"))
    for where in ("patients", "splits", "labels"):
        assert f"{name}_across_{where}" in checks(report, severity)
        assert {5, 40} <= set(rows_of(report, f"{name}_across_{where}"))
    assert {5, 40} <= set(rows_of(report, f"{name}_films"))
    alone = audit(films, images, y=None, groups=None)
    assert not [check for check in alone.findings["check"] if "across" in check]
    assert len(alone.associations) == 0
    assert len([text for text in alone.not_checked if "no " in text]) == 3


def test_copies_of_one_patient_in_one_part_are_no_error(films):
    images, groups, y = films.images.copy(), films.groups.copy(), films.target.copy()
    images[5], groups[5], y[5] = images[40], groups[40], y[40]
    report = audit(films, images, groups=groups, y=y)
    assert rows_of(report, "identical_films") == [5, 40]
    assert checks(report, "error") == set()


@pytest.mark.parametrize(
    "form",
    [
        lambda names: names,
        lambda names: names.tolist(),
        lambda names: pd.Series(names, index=np.arange(len(names))[::-1]),
        lambda names: {name: np.flatnonzero(names == name) for name in ("train", "test")},
        lambda names: {name: names == name for name in ("train", "test")},
        lambda names: [(np.flatnonzero(names == "train"), np.flatnonzero(names == "test"))],
    ],
)
def test_patients_in_several_parts_whatever_form_the_splits_have(films, form):
    names = split_names(films.groups)
    table = pd.crosstab(films.groups, names)
    shared = table.index[(table > 0).all(axis=1)]
    report = audit(films, splits=form(names))
    assert rows_of(report, "patients_across_splits") == sorted(
        np.flatnonzero(np.isin(films.groups, shared))
    )
    found = report.findings.set_index("check").loc["patients_across_splits"]
    assert found["n_sets"] == len(shared)


def test_splits_are_taken_from_the_frame_and_from_folds(films):
    frame = films.frame.assign(split=split_names(films.groups))
    assert "patients_across_splits" in checks(audit(films, frame=frame), "error")
    folds = list(KFold(3).split(films.images))
    assert "patients_across_splits" in checks(audit(films, splits=folds), "error")
    mended = audit(films, splits=list(GroupKFold(3).split(films.images, groups=films.groups)))
    assert checks(mended, "error") == set()


def test_a_film_in_both_parts_is_found(films):
    groups = np.arange(90)
    report = audit(films, groups=groups, splits={"train": range(60), "test": range(58, 90)})
    assert rows_of(report, "films_in_several_splits") == [58, 59]


def test_patients_and_labels_are_looked_at(films):
    groups = films.groups.astype(object)
    groups[3] = None
    y = films.target.astype(float)
    y[4] = np.nan
    report = audit(films, groups=groups, y=y)
    assert rows_of(report, "patients_missing") == [3]
    assert "unknown: 1" in report.findings.set_index("check").loc["class_balance", "message"]
    y = np.where(np.arange(90) < 3, "rare", "common")
    report = audit(films, y=y, groups=np.arange(90))
    assert {"class_imbalance", "few_patients"} <= checks(report, "warning")
    assert rows_of(report, "few_patients") == [0, 1, 2]
    report = audit(films, y=np.zeros(90), groups=np.zeros(90))
    assert {"one_class", "one_patient"} <= checks(report, "error")
    report = audit(films, y=np.arange(90) % 2, groups=np.arange(90) // 2)
    assert rows_of(report, "patients_with_several_labels") == list(range(90))


def test_a_patient_who_is_written_in_two_ways(films):
    groups = np.array([f"p{i}" for i in range(90)], dtype=object)
    groups[[3, 8, 20]] = 7, "00000007", None
    report = audit(films, groups=groups)
    assert rows_of(report, "patients_written_alike") == [3, 8]
    assert "such as 7, and" in report.findings.set_index("check").message["patients_written_alike"]


def test_metadata_are_looked_at(films):
    frame = films.frame.copy()
    frame["age"] = frame["age"].astype(float)
    frame.loc[[3, 4], "age"] = [411, 5]
    frame.loc[7, "view"] = "LL"
    report = audit(films, frame=frame)
    assert rows_of(report, "implausible_age") == [3]
    assert (
        "1 film of children"
        in (report.findings.set_index("check").loc["children_and_adults", "message"])
    )
    assert rows_of(report, "other_views") == [7]


def associated(report):
    found = report.findings
    found = found[(found["check"] == "association") & (found["severity"] == "warning")]
    return {message.split()[0] for message in found["message"]}


@pytest.mark.parametrize(
    ("options", "variable"),
    [
        ({"marker": "random", "marker_confounding": 0.9}, "marker_score"),
        ({"view": "mixed", "view_confounding": 0.9}, "view"),
    ],
)
def test_shortcuts_are_found_as_associations(options, variable):
    spoiled = make_chest_xrays(120, image_size=112, random_state=0, **options)
    assert variable in associated(audit(spoiled))


def test_metadata_of_ones_own_choice_are_tested(films):
    hospital = np.where(films.target == 0, "A", "B")
    report = audit(films, frame=films.frame.assign(hospital=hospital), metadata=["hospital"])
    row = report.associations.set_index("variable").loc["hospital"]
    assert row["effect_size"] > 0.9
    assert associated(report) == {"hospital"}
    age = np.where(films.target == 0, np.nan, 40.0)
    report = audit(films, frame=pd.DataFrame({"age": age, "device": 1}), metadata=["age", "where"])
    assert "age" in associated(report)
    assert "where: not in the frame, or empty" in report.not_checked


def test_two_devices_show_as_clusters_of_brightness(films):
    images = films.images.copy()
    dark = films.target == 1
    images[dark] = images[dark] * 0.4
    report = audit(films, images)
    assert rows_of(report, "brightness_clusters") == list(np.flatnonzero(dark))
    assert "brightness_cluster" in associated(report)


@pytest.mark.parametrize("known", ["all", "none", "some"])
def test_clusters_are_found_within_patients_and_without_their_ids(films, known):
    images, dark = films.images.copy(), np.arange(90) % 2 == 0
    images[dark] = images[dark] * 0.4
    # Each patient has dark films and bright ones.
    groups = (np.arange(90) // 6).astype(object)
    groups[{"all": 90, "none": 0, "some": 30}[known] :] = None
    report = audit(films, images, groups=groups)
    assert rows_of(report, "brightness_clusters") == list(np.flatnonzero(dark))


def test_many_films_of_one_patient_are_no_cluster(films):
    images, groups = films.images.copy(), np.arange(90)
    images[:40] = images[:40] * 0.4
    groups[:40] = 0
    assert "brightness_clusters" not in set(audit(films, images, groups=groups).findings["check"])
    two = audit(films, images, groups=np.arange(90) % 2)
    assert "brightness clusters: fewer than 3 patients" in two.not_checked


def test_a_film_that_uses_few_of_its_levels_is_found_and_no_blank(films):
    images = films.images.astype(np.uint16) * 257
    images[5] = images[5] // 64
    images[6] = images[6] // 16
    images[7] = 30000
    report = audit(films, images)
    assert rows_of(report, "unused_range") == [5, 6]
    assert rows_of(report, "blank") == [7]
    assert "unused_range" in checks(report, "warning")
    used = report.facts["used_range"]
    assert used[5] == pytest.approx((int(images[5].max()) - int(images[5].min())) / 65535)
    # Said what white is, nothing is amiss.
    report = audit(films, films.images.astype(np.uint16) * 4, value_range=(0, 1023))
    assert checks(report, "error", "warning") == set()


def test_each_leaky_fold_is_looked_at(films):
    patients = np.arange(90) // 2
    parts = [np.flatnonzero(patients % 3 == k) for k in range(3)]
    folds = [(np.setdiff1d(np.arange(90), test), test) for test in parts]
    # Patient 0 leaks in the first fold, patient 7 in the third, where film 15 is on both sides.
    folds[0] = (np.append(folds[0][0], 0), np.setdiff1d(parts[0], 0))
    folds[2] = (np.append(folds[2][0], 15), np.append(parts[2], [14, 15]))
    folds[2] = (np.setdiff1d(folds[2][0], 14), folds[2][1])
    report = audit(films, groups=patients, splits=folds)
    assert rows_of(report, "films_in_several_splits") == [15]
    leaks = report.images.query("check == 'patients_across_splits'")
    assert sorted(leaks["row"]) == [0, 1]
    assert set(leaks["detail"]) == {"split 0"}
    message = report.findings.set_index("check").loc["patients_across_splits", "message"]
    assert message.startswith("1 patient (2 films) in") and "in 1 of 3 splits" in message
    folds[2] = (np.append(np.setdiff1d(np.arange(90), parts[2]), 4), np.setdiff1d(parts[2], 4))
    report = audit(films, groups=patients, splits=folds)
    leaks = report.images.query("check == 'patients_across_splits'")
    assert dict(zip(leaks["row"], leaks["detail"], strict=True)) == {
        0: "split 0",
        1: "split 0",
        4: "split 2",
        5: "split 2",
    }
    assert report.findings.set_index("check").loc["patients_across_splits", "n_sets"] == 2


def test_a_part_without_films_is_allowed(films):
    report = audit(films, groups=np.arange(90), splits={"train": range(90), "test": []})
    assert checks(report, "error") == set()
    assert audit(films, splits={"train": []}).n_images == 90


def test_what_cannot_be_tested_is_listed(films):
    frame = pd.DataFrame(
        {
            "device": [f"device {i % 40}" for i in range(90)],
            "taken": pd.Timestamp("2020-01-01") + pd.to_timedelta(400 * films.target, unit="D"),
            "accession": [f"a{i}" for i in range(90)],
            "sex": "F",
        }
    )
    report = audit(films, frame=frame, metadata=list(frame), groups=np.arange(90))
    tested = set(report.associations["variable"])
    assert {"device", "taken"} <= tested and not {"accession", "sex"} & tested
    assert "taken" in associated(report)
    listed = "\n".join(report.not_checked)
    assert "association with the label of sex: one value only" in listed
    assert "association with the label of accession: 90 different values" in listed


def test_borders_and_markers_are_counted(films):
    images = films.images.copy()
    images[[2, 8], :, :20] = 0
    images[2, 10:18, 4:12] = 255
    report = audit(films, images)
    assert rows_of(report, "borders") == [2, 8]
    assert rows_of(report, "markers") == [2]
    share = report.facts["border_share"]
    np.testing.assert_allclose(share[[2, 8]], 20 / 112, atol=0.01)
    # Mean levels by hand.
    np.testing.assert_allclose(
        report.facts["mean_intensity"], images.mean(axis=(1, 2)) / 255, atol=1e-6
    )


def test_labels_of_several_kinds_with_unknown_ones(films):
    rng = np.random.RandomState(0)
    y = pd.DataFrame({"Effusion": films.target == 1, "Nodule": rng.rand(90) < 0.4}).astype(float)
    y["Hernia"] = 0.0
    y.loc[3, "Nodule"] = np.nan
    images = films.images.copy()
    images[5] = images[40]
    y.loc[[5, 40]] = [[1, np.nan, 0], [1, 0, 0]]
    report = audit(films, images, y=y)
    assert "identical_across_labels" not in set(report.findings["check"])
    assert "one_class" in checks(report, "warning")
    assert set(report.associations["label"]) == {"Effusion", "Nodule"}
    assert report.images.query("check == 'identical_films'")["label"].tolist() == ["Effusion"] * 2
    y.loc[40, "Nodule"], y.loc[5, "Nodule"] = 0, 1
    assert rows_of(audit(films, images, y=y), "identical_across_labels") == [5, 40]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [1, 2]}, "groups of shape"),
        ({"y": [1, 2]}, "labels of shape"),
        ({"frame": pd.DataFrame({"age": [1]})}, "frame of 1 rows for 90"),
        ({"splits": ["train", "test"]}, "splits of shape"),
        ({"splits": {"train": [90], "test": [0]}}, "row numbers below 90"),
        ({"splits": {"train": [-1], "test": [0]}}, "row number -1"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "no films"),
        ({"images": np.zeros((90, 7), np.uint8)}, "image_shape"),
        ({"images": np.full((90, 8, 8), 7.0)}, "value_range"),
        ({"images": np.array([["a", "b"]] * 90)}, "expected paths"),
        ({"raise_on": "fatal"}, "raise_on"),
    ],
)
def test_what_does_not_fit_raises(films, changes, message):
    changes = {"images": films.images, **changes}
    images = changes.pop("images")
    with pytest.raises(ValueError, match=message):
        audit(films, images, **changes)


def test_a_splitter_is_no_split(films):
    with pytest.raises(TypeError, match=r"list\(cv\.split"):
        audit(films, splits=KFold(3))
