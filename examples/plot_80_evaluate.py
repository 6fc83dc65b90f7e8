"""
Can I believe it? From figures to films
=======================================

An accuracy alone says little: of how many patients, at which threshold, in which of them? Here a
model is judged the long way: its threshold is chosen on patients of its own, it is evaluated on
others, in parts of them, and its worst errors are looked at.
"""

# %%
# Films with a trap
# -----------------
#
# Of the biased training films, four in five with pneumonia were taken AP (lying, as in intensive
# care) and four in five without it PA, so a model may learn the view instead of the disease. The
# fair ones, and the films that both are judged on, have no such association.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection import (
    ErrorGalleryDisplay,
    SubgroupDisplay,
    compare_reports,
    evaluate,
)
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.metrics import operating_point
from sklearn_cxr.model_selection import patient_train_test_split


def films_of(n_samples, seed, confounding=0.0):
    """Make films of adults with or without a viral pneumonia."""
    return make_chest_xrays(
        n_samples,
        image_size=64,
        classes=("normal", "viral"),
        view="mixed",
        view_confounding=confounding,
        random_state=seed,
    )


biased, fair, test = films_of(600, 0, 0.6), films_of(600, 1), films_of(400, 2)

# %%
# A threshold from patients of its own
# ------------------------------------
#
# A quarter of the training patients is kept to choose the threshold: 90 % sensitivity.

models, points = {}, {}
for name, films in {"biased": biased, "fair": fair}.items():
    X, X_tune, y, y_tune, _, patients = patient_train_test_split(
        films.images,
        films.target,
        films.groups,
        groups=films.groups,
        stratify=films.target,
        test_size=0.25,
        random_state=0,
    )
    models[name] = PixelLogisticRegression(C=1e-3).fit(X, y)
    score = models[name].predict_proba(X_tune)[:, 1]
    points[name] = operating_point(y_tune, score, target=("sensitivity", 0.9), groups=patients)
    print(f"{name}: threshold {points[name].threshold:.2f}")

# %%
# The report
# ----------
#
# Every figure has an interval that knows whose film each one is. ``report.to_html("report.html")``
# writes one file with all of it, pictures included.

reports = {
    name: evaluate(
        models[name],
        test.images,
        test.target,
        groups=test.groups,
        frame=test.frame,
        name=name,
        split="new patients",
        threshold=points[name],
        label_names=test.target_names,
        random_state=0,
    )
    for name in models
}
print(reports["biased"])

# %%
reports["biased"].plot()
plt.show()

# %%
# Where it fails
# --------------
#
# Nothing in the figures of all films tells it, but at one threshold for both views the model that
# learned from biased films calls most healthy patients ill when they are filmed AP, and misses
# more of the ill ones when they are filmed PA. The AUC is higher in each view than over both: a
# sign that the views lie at different scores.

for name, model in models.items():
    display = SubgroupDisplay.from_estimator(
        model,
        test.images,
        test.target,
        frame=test.frame,
        columns=["view", "sex"],
        groups=test.groups,
        threshold=points[name].threshold,
    )
    display.figure_.suptitle(f"learned from {name} films", fontsize=16)
plt.show()

# %%
# The worst errors
# ----------------
#
# Look at them, with the view in mind.

views = np.array([f"{view} film" for view in test.frame["view"]])
display = ErrorGalleryDisplay.from_estimator(
    models["biased"],
    test.images,
    test.target,
    files=views,
    groups=test.groups,
    threshold=points["biased"].threshold,
)
# sphinx_gallery_thumbnail_number = 2
plt.show()

# %%
# Which model is better?
# ----------------------
#
# Both were judged on the same films, so they may stand in one table, and their AUCs are compared
# film by film. Reports of different films are refused.

table = compare_reports(reports["biased"], reports["fair"])
print(table.filter(like="roc_auc").T.to_string(float_format="{:.3f}".format))
