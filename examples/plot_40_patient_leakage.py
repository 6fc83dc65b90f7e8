"""
====================================================
Patients on both sides of a split: a score too good
====================================================

Most archives hold several films of one patient. A split by film puts the same patient into the
training and into the test set, and a model that recognises patients scores without having learnt
anything about disease. Phantoms show how much of a score this can be.
"""

# %%
# Films without any sign of disease
# ---------------------------------
# ``severity=0`` makes every opacity invisible: half of the patients are called ill, but nothing
# in their films says so. No honest score can differ from 0.5 by more than chance. There are
# four films a patient, and anatomy and exposure are the patient's own.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.exceptions import PatientLeakageError
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.model_selection import check_patient_leakage


def films_of(n_samples, n_patients, severity, random_state):
    """Make normal and viral films of 32 pixels."""
    return make_chest_xrays(
        n_samples,
        n_patients=n_patients,
        image_size=32,
        classes=("normal", "viral"),
        severity=severity,
        random_state=random_state,
    )


def splits_of(films):
    """Five folds that know nothing of patients, and five that keep each on one side."""
    by_film = StratifiedKFold(5, shuffle=True, random_state=0)
    by_patient = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    return {
        "by film": list(by_film.split(films.images, films.target)),
        "by patient": list(by_patient.split(films.images, films.target, films.groups)),
    }


def scores(severity):
    """AUC of every fold by kind of split, and on 400 new patients."""
    films = films_of(240, 60, severity, random_state=0)
    model = PixelLogisticRegression(C=0.01)
    found = {
        name: cross_val_score(model, films.images, films.target, cv=folds, scoring="roc_auc")
        for name, folds in splits_of(films).items()
    }
    new = films_of(400, 400, severity, random_state=1)
    model.fit(films.images, films.target)
    return found, roc_auc_score(new.target, model.decision_function(new.images))


no_disease, truth_no_disease = scores(0.0)
for name, values in no_disease.items():
    print(f"nothing to see, split {name:<10}: AUC {values.mean():.2f}")
print(f"nothing to see, 400 new patients: AUC {truth_no_disease:.2f}")

# %%
# Films with subtle disease
# -------------------------
# The same with something to learn. The split by film still promises more than new patients will
# keep; the split by patient does not, and its folds scatter as much as twelve patients scatter.

disease, truth_disease = scores((0.1, 0.6))
for name, values in disease.items():
    print(f"subtle disease, split {name:<10}: AUC {values.mean():.2f}")
print(f"subtle disease, 400 new patients: AUC {truth_disease:.2f}")

# %%
_, axes = plt.subplots(1, 2, figsize=(10.4, 4.8), sharey=True, layout="constrained")
panels = [
    ("nothing to see", no_disease, truth_no_disease),
    ("subtle disease", disease, truth_disease),
]
for axis, (title, found, truth) in zip(axes, panels, strict=True):
    for place, (name, color, marker) in enumerate(
        [("by film", "#D55E00", "X"), ("by patient", "#0072B2", "o")]
    ):
        values = np.sort(found[name])
        axis.scatter(
            place + np.linspace(-0.12, 0.12, 5),
            values,
            s=110,
            color=color,
            marker=marker,
            alpha=0.8,
        )
        axis.hlines(values.mean(), place - 0.25, place + 0.25, color=color, linewidth=3)
    axis.axhline(truth, color="black", linestyle="--", linewidth=2, label="400 new patients")
    axis.axhline(0.5, color="0.6", linestyle=":", linewidth=2, label="chance")
    axis.set_xticks([0, 1], ["split by film", "split by patient"], fontsize=15)
    axis.set_xlim(-0.5, 1.5)
    axis.tick_params(axis="y", labelsize=13)
    axis.set_title(title, fontsize=16)
axes[0].set_ylabel("AUC of each of 5 folds", fontsize=15)
axes[0].legend(fontsize=13, loc="upper right")

# %%
# Let the split be checked
# ------------------------
# :func:`~sklearn_cxr.model_selection.check_patient_leakage` takes any split and names the patients
# who stand on both sides.

films = films_of(240, 60, 0.0, random_state=0)
for name, folds in splits_of(films).items():
    try:
        check_patient_leakage(films.groups, folds)
        print(f"split {name}: no patient on both sides")
    except PatientLeakageError as error:
        print(f"split {name}: {error}")

# %%
plt.show()
