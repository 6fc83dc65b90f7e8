"""
===========================================================
From files to a classifier: a pipeline and its grid search
===========================================================

Paths go in, classes come out, and everything between is one scikit-learn pipeline that a grid
search can tune. Whatever is split is split by patient.
"""

# %%
# Files, labels, patients
# -----------------------
# Phantom films are written as PNG files, as an archive would export them. For files of your own
# use :func:`~sklearn_cxr.datasets.load_image_folder`.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import RocCurveDisplay, recall_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.model_selection import check_patient_leakage, patient_train_test_split
from sklearn_cxr.preprocessing import HistogramEqualizer, ImageReader

phantoms = make_chest_xrays(400, image_size=128, random_state=0)
folder = Path(tempfile.mkdtemp())
paths = np.array([str(folder / f"film{i:03d}.png") for i in range(400)], dtype=object)
for path, film in zip(paths, phantoms.images, strict=True):
    Image.fromarray(film).save(path)
y = np.where(phantoms.frame["label"] == "normal", "normal", "pneumonia")
patients = phantoms.groups

# %%
# A fifth of the patients is put aside, with the same share of pneumonia.

X_train, X_test, y_train, y_test, patients_train, patients_test = patient_train_test_split(
    paths, y, patients, groups=patients, test_size=0.2, stratify=y, random_state=0
)
pd.DataFrame(
    {
        "films": [len(X_train), len(X_test)],
        "patients": [len(np.unique(patients_train)), len(np.unique(patients_test))],
        "pneumonia": [np.mean(y_train == "pneumonia"), np.mean(y_test == "pneumonia")],
    },
    index=["training", "held out"],
).round(2)

# %%
# The pipeline
# ------------
# With ``cache_dir``, :class:`~sklearn_cxr.preprocessing.ImageReader` decodes each file once; all
# folds and all points of the grid read the result from the same memory-mapped store.

pipeline = Pipeline(
    [
        ("read", ImageReader(size=32, cache_dir=folder / "store")),
        ("equalize", HistogramEqualizer()),
        ("classify", PixelLogisticRegression()),
    ]
)
grid = {
    "equalize": ["passthrough", HistogramEqualizer()],
    "classify__C": np.logspace(-4, 2, 7),
}
search = GridSearchCV(
    pipeline, grid, scoring="roc_auc", cv=StratifiedGroupKFold(3, shuffle=True, random_state=0)
)
check_patient_leakage(patients_train, search.cv.split(X_train, y_train, patients_train))
search.fit(X_train, y_train, groups=patients_train)

# %%
# What the search found
# ---------------------
# A penalty that is too strong (a small C) hides the disease; from C = 0.01 on the score changes
# less than from fold to fold. Bars are one standard deviation over the folds.

results = pd.DataFrame(search.cv_results_)
_, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
# The second curve is moved sideways a little, so that the bars do not cover each other.
curves = [("passthrough", "as read", "o", "#0072B2", 1.0)]
curves += [("HistogramEqualizer", "equalised", "s", "#D55E00", 1.15)]
for step, label, marker, color, shift in curves:
    rows = results[[step in str(value) for value in results["param_equalize"]]]
    axis.errorbar(
        rows["param_classify__C"].astype(float) * shift,
        rows["mean_test_score"],
        rows["std_test_score"],
        marker=marker,
        markersize=9,
        capsize=4,
        color=color,
        label=label,
    )
axis.set_xscale("log")
axis.set_xlabel("C (inverse strength of the penalty)", fontsize=15)
axis.set_ylabel("AUC, mean of 3 folds", fontsize=15)
axis.set_title("Patient-grouped cross-validation", fontsize=16)
axis.tick_params(labelsize=13)
axis.legend(fontsize=14)

# %%
# Patients that it has never seen
# -------------------------------
# The threshold of 0.5 is one point on the curve. Sensitivity and specificity belong to that
# point, the AUC to all of them.

model = search.best_estimator_
probability = model.predict_proba(X_test)[:, 1]
predicted = model.predict(X_test)
sensitivity = recall_score(y_test, predicted, pos_label="pneumonia")
specificity = recall_score(y_test, predicted, pos_label="normal")
print(f"best of the grid: C={search.best_params_['classify__C']:g}")
print(f"AUC in cross-validation {search.best_score_:.3f}")
print(f"AUC on held-out patients {roc_auc_score(y_test == 'pneumonia', probability):.3f}")
print(f"sensitivity {sensitivity:.2f}, specificity {specificity:.2f} at 0.5")

_, axis = plt.subplots(figsize=(5.6, 5.4), layout="constrained")
RocCurveDisplay.from_predictions(
    y_test == "pneumonia", probability, ax=axis, name="held-out patients", plot_chance_level=True
)
axis.plot(1 - specificity, sensitivity, "o", color="#D55E00", markersize=11, label="at 0.5")
axis.set_xlabel("1 - specificity", fontsize=15)
axis.set_ylabel("sensitivity", fontsize=15)
axis.set_title("Pneumonia in phantoms", fontsize=16)
axis.tick_params(labelsize=13)
axis.legend(fontsize=12, loc="lower right")

# %%
# What the model looks at
# -----------------------
# ``coef_image_`` holds the coefficients as an image. Brightness where it is orange speaks for
# pneumonia, where it is purple against it. Most of the orange lies inside the lungs; what is
# scattered elsewhere is the noise of a few hundred films.

steps = model.named_steps
mean_film = np.asarray(steps["read"].transform(X_train)).mean(axis=0)
coefficients = steps["classify"].coef_image_[0]
limit = np.abs(coefficients).max()

_, axes = plt.subplots(1, 2, figsize=(9.4, 4.6), layout="constrained")
axes[0].imshow(mean_film, cmap="gray")
axes[0].set_title("mean film, 32 pixels", fontsize=16)
drawn = axes[1].imshow(coefficients, cmap="PuOr_r", vmin=-limit, vmax=limit)
axes[1].set_title(f"toward {model.classes_[1]}", fontsize=16)
for axis in axes:
    axis.set(xticks=[], yticks=[])
bar = plt.colorbar(drawn, ax=axes[1])
bar.set_label("log odds per standard deviation", fontsize=13)
# sphinx_gallery_thumbnail_number = 3
plt.show()
