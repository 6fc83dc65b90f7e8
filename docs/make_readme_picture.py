"""Draw ``docs/_static/overview.png``, the picture on top of the README.

Usage: ``python docs/make_readme_picture.py``
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import RocCurveDisplay
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.model_selection import patient_train_test_split
from sklearn_cxr.preprocessing import Resize

phantoms = make_chest_xrays(1000, random_state=0)
y = (phantoms.target > 0).astype(int)
X_train, X_test, y_train, y_test = patient_train_test_split(
    phantoms.images, y, groups=phantoms.groups, stratify=y, test_size=0.3, random_state=0
)
model = make_pipeline(Resize(56), PixelLogisticRegression(C=1e-3)).fit(X_train, y_train)

figure = Figure(figsize=(11, 2.9), layout="constrained")
axes = figure.subplots(1, 5, width_ratios=[1, 1, 1, 1, 1.15])
severe = (phantoms.frame["severity"].to_numpy() > 0.75) | (phantoms.target == 0)
for ax, (label, name) in zip(axes, enumerate(phantoms.target_names), strict=False):
    film = phantoms.images[np.flatnonzero((phantoms.target == label) & severe)[1]]
    ax.imshow(film, cmap="gray", vmin=0, vmax=255)
    ax.set_title(f"Phantom, {name}")
coefficients = model[-1].coef_image_[0]
limit = np.abs(coefficients).max()
axes[3].imshow(coefficients, cmap="PuOr_r", vmin=-limit, vmax=limit)
axes[3].set_title("Coefficients\n(orange: pneumonia)")
for ax in axes[:4]:
    ax.axis("off")
probability = model.predict_proba(X_test)[:, 1]
RocCurveDisplay.from_predictions(
    y_test, probability, ax=axes[4], name="pixels", plot_chance_level=True
)
axes[4].set(xlabel="1 - specificity", ylabel="Sensitivity", title="Patients never seen")
axes[4].legend(fontsize=8, loc="lower right")
figure.savefig(Path(__file__).parent / "_static" / "overview.png", dpi=100, bbox_inches="tight")
