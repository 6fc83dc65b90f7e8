"""
Transfer learning, frozen and fine-tuned
========================================

A network that has seen a million photographs already knows edges, textures and shapes. It can be
used as it is, with a logistic regression on its features, or be trained further on films. Both
are estimators: :class:`~sklearn_cxr.feature_extraction.BackboneFeatures` and
:class:`~sklearn_cxr.neural_network.TransferClassifier`. Here they meet phantom films, with the
small EfficientNet-Lite0, whose weights come with the extra ``weights`` and need no download.
"""

# %%
# Films of 160 patients, a quarter of them held out
# -------------------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import RocCurveDisplay
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.metrics import roc_auc_interval
from sklearn_cxr.model_selection import patient_train_test_split
from sklearn_cxr.neural_network import TrainingHistoryDisplay, TransferClassifier

films = make_chest_xrays(
    320, n_patients=160, image_size=96, classes=("normal", "bacterial"), random_state=0
)
y = np.where(films.target > 0, "pneumonia", "normal")
X, X_test, y, y_test, patients, patients_test = patient_train_test_split(
    films.images, y, films.groups, groups=films.groups, test_size=0.25, stratify=y, random_state=0
)

# %%
# Three models
# ------------
#
# Pixels alone; the frozen network; the network fine-tuned for a few epochs. ``early_stopping``
# holds out training patients of its own and keeps the best epoch.

models = {
    "pixels": PixelLogisticRegression(C=1e-3),
    "frozen features": make_pipeline(
        BackboneFeatures("efficientnet_lite0"), StandardScaler(), LogisticRegression(C=1e-3)
    ),
    "fine-tuned": TransferClassifier(
        "efficientnet_lite0",
        augment="light",
        max_epochs=8,
        batch_size=16,
        lr=2e-3,
        weight_averaging=0.9,
        early_stopping=True,
        validation_fraction=0.2,
        random_state=0,
    ),
}
models["pixels"].fit(X, y)
models["frozen features"].fit(X, y)
models["fine-tuned"].fit(X, y, groups=patients)

# %%
# Loss and accuracy of each epoch
# -------------------------------
#
# Training figures are of augmented films, held-out ones of films as they are, and of the averaged
# weights.

TrainingHistoryDisplay.from_estimator(models["fine-tuned"])
plt.show()

# %%
# On patients never seen
# ----------------------
#
# The intervals count patients, not films: two films of one patient are no two witnesses.

figure, ax = plt.subplots(figsize=(5.2, 4.8), layout="constrained")
styles = (("#0072B2", ":"), ("#E69F00", "--"), ("#000000", "-"))
for (name, model), (color, line) in zip(models.items(), styles, strict=True):
    score = model.predict_proba(X_test)[:, 1]
    auc = roc_auc_interval(y_test == "pneumonia", score, groups=patients_test)
    print(f"{name:16} AUC {auc.estimate:.3f} [{auc.low:.3f}, {auc.high:.3f}]")
    RocCurveDisplay.from_predictions(
        y_test,
        score,
        pos_label="pneumonia",
        name=name,
        ax=ax,
        curve_kwargs={"color": color, "linestyle": line},
    )
ax.set(xlabel="1 - specificity", ylabel="Sensitivity")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
