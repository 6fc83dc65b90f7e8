"""The audit names what was planted, and says nothing of films in which nothing was."""

import os

import numpy as np
import pytest
from audit_common import audit, checks
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection import audit_dataset


@pytest.fixture(scope="module")
def films():
    """One film for each of 80 patients, so that films may be counted instead."""
    return make_chest_xrays(
        80, n_patients=80, image_size=112, classes=("normal", "viral"), random_state=0
    )


def write(images, folder, suffix=".png", **options):
    paths = [str(folder / f"film{i:03d}{suffix}") for i in range(len(images))]
    for i, (path, image) in enumerate(zip(paths, images, strict=True)):
        given = {name: values[i] for name, values in options.items()}
        size = given.pop("size", None)
        image = Image.fromarray(image)
        (image if size is None else image.resize(size)).save(path, **given)
    return paths


def named(report, *severities):
    """Variables that go along with the label, by the findings."""
    found = report.findings.query("check == 'association'")
    kept = found["severity"].isin(severities or ("warning", "info"))
    return {message.split()[0] for message in found["message"][kept]}


def check_named(report, variable, values, y):
    """Assert that the audit tells of the variable, and that the effect is Mann-Whitney's."""
    effect = report.associations.set_index("variable").loc[variable, "effect_size"]
    assert effect == pytest.approx(abs(2 * roc_auc_score(y, values) - 1), abs=1e-6)
    assert effect > 0.3 and variable in named(report)


def test_age(films):
    y, rng = films.target, np.random.RandomState(0)
    age = rng.randint(20, 60, size=80) + 25 * y
    report = audit(films, frame=films.frame.assign(age=age))
    check_named(report, "age", age, y)
    assert named(report, "warning") == {"age"}


def test_sex(films):
    y, rng = films.target, np.random.RandomState(0)
    sex = np.where(rng.uniform(size=80) < 0.15 + 0.7 * y, "M", "F")
    report = audit(films, frame=films.frame.assign(sex=sex))
    row = report.associations.set_index("variable").loc["sex"]
    # The phi coefficient is Cramér's V of two by two, but for its correction of 1 / 79 here.
    phi = np.corrcoef(sex == "M", y)[0, 1]
    assert row["effect_size"] == pytest.approx(np.sqrt((phi**2 - 1 / 79) / (1 - 1 / 79)))
    assert row["effect_size"] > 0.3 and named(report, "warning") == {"sex"}


def test_file_size(films, tmp_path):
    y = films.target
    paths = write(films.images, tmp_path, ".jpeg", quality=[70 + 20 * int(k) for k in y])
    report = audit_dataset(paths, y, films.groups)
    check_named(report, "file_size", [os.path.getsize(path) for path in paths], y)


def test_width_and_height(films, tmp_path):
    y, rng = films.target, np.random.RandomState(0)
    sizes = rng.randint(100, 130, size=(80, 2)) + 15 * y[:, None]
    report = audit_dataset(write(films.images, tmp_path, size=sizes.tolist()), y, films.groups)
    for variable, values in zip(("width", "height"), sizes.T, strict=True):
        check_named(report, variable, values, y)


def test_mean_intensity(films):
    y, images = films.target, films.images.copy()
    images[y == 1] = images[y == 1] * 0.75
    report = audit(films, images)
    check_named(report, "mean_intensity", images.mean(axis=(1, 2)), y)
    assert "mean_intensity" not in named(audit(films))


def test_near_copies_of_one_patient_and_class_are_a_note_only():
    films = make_chest_xrays(90, image_size=112, view="mixed", random_state=0)
    images, groups, y = films.images.copy(), films.groups.copy(), films.target.copy()
    images[5] = np.clip(255 * (images[40] / 255) ** 0.7, 0, 255)
    groups[5], y[5] = groups[40], y[40]
    parts = list(GroupKFold(3).split(images, groups=groups))
    report = audit(films, images, groups=groups, y=y, splits=parts)
    # Films of one phantom patient are alike, so that there are other sets.
    shown = report.images.query("check == 'near_identical_films'").set_index("row")["set"]
    assert shown[5] == shown[40]
    assert "near_identical_films" in checks(report, "info")
    assert not [check for check in report.findings["check"] if "across" in check]
    assert checks(report, "error", "warning") == set()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clean_files_give_neither_error_nor_warning(seed, tmp_path):
    clean = make_chest_xrays(100, image_size=112, view="mixed", random_state=seed)
    paths = write(clean.images, tmp_path)
    by_patient = list(GroupKFold(3).split(paths, groups=clean.groups))
    report = audit_dataset(paths, clean.target, clean.groups, frame=clean.frame, splits=by_patient)
    assert checks(report, "error", "warning") == set()
    assert {"file_size", "width"} <= set(report.facts.columns)
