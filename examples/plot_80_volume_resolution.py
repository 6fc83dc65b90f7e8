"""
How many patients, how many pixels?
===================================

Would more patients help, or larger films? The first question is a learning curve, counted by
patients: films of a patient that is known already bring little. The second is a validation curve
over the size of the films.
"""

# %%
# Volume
# ------
#
# Each fold's training patients are put in an order, and the model learns from all films of the
# first of them. The folds' test patients stay the same. While the curve still rises, more patients
# help.

import matplotlib.pyplot as plt
from sklearn.model_selection import StratifiedGroupKFold, ValidationCurveDisplay
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection import PatientLearningCurveDisplay
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.preprocessing import Resize

films = make_chest_xrays(
    600, n_patients=300, image_size=64, classes=("normal", "viral"), random_state=0
)
model = make_pipeline(Resize(32), PixelLogisticRegression(C=1e-3))
PatientLearningCurveDisplay.from_estimator(
    model,
    films.images,
    films.target,
    groups=films.groups,
    n_patients=[10, 25, 50, 100, 150, 200],
    cv=4,
    scoring="roc_auc",
    random_state=0,
)
plt.show()

# %%
# Resolution
# ----------
#
# scikit-learn's own validation curve, by patient. A depth study is the same with the parameter
# that holds the number of layers.

figure, ax = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
ValidationCurveDisplay.from_estimator(
    model,
    films.images,
    films.target,
    groups=films.groups,
    param_name="resize__size",
    param_range=[8, 16, 32, 64],
    cv=StratifiedGroupKFold(4, shuffle=True, random_state=0),
    scoring="roc_auc",
    score_name="AUC",
    std_display_style="errorbar",
    errorbar_kw={"marker": "o", "markersize": 8, "linewidth": 2.5, "capsize": 4},
    ax=ax,
)
ax.set_xscale("log", base=2)
ax.set_xticks([8, 16, 32, 64], ["8", "16", "32", "64"])
ax.set_xlabel("pixels a side", fontsize=14)
ax.set_ylabel("AUC", fontsize=14)
ax.tick_params(labelsize=13)
ax.legend(fontsize=13)
plt.show()
