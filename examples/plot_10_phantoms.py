"""
=============================================
Phantom films: what make_chest_xrays can draw
=============================================

:func:`~sklearn_cxr.datasets.make_chest_xrays` computes chest radiographs, so that a pipeline can
be built and tested before there are any data. They are caricatures: good for finding mistakes,
not for finding out how well a method reads real films.
"""

# %%
# Three classes
# -------------
# A *bacterial* pneumonia is a consolidation of one lobe, and ``frame`` holds the box around it.
# A *viral* one is a diffuse interstitial pattern without a box. ``severity=1`` makes both plain.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from sklearn_cxr.datasets import make_chest_xrays


def show(images, titles, *, boxes=None):
    """Draw films side by side."""
    _, axes = plt.subplots(1, len(images), figsize=(3.4 * len(images), 4), layout="constrained")
    for i, (axis, image, title) in enumerate(zip(axes, images, titles, strict=True)):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=16)
        axis.set(xticks=[], yticks=[])
        if boxes is not None and np.isfinite(boxes[i]).all():
            x, y, width, height = boxes[i]
            axis.add_patch(Rectangle((x, y), width, height, fill=False, color="gold", lw=2.5))


plain = make_chest_xrays(n_samples=12, severity=1.0, random_state=4)
first = [int(np.flatnonzero(plain.target == code)[0]) for code in range(3)]

show(
    plain.images[first],
    [plain.target_names[code] for code in plain.target[first]],
    boxes=plain.frame.loc[first, ["x", "y", "w", "h"]].to_numpy(),
)

# %%
# The table has one row for each film. Age and sex are drawn; they do not depend on the class.

plain.frame.round({"x": 0, "y": 0, "w": 0, "h": 0}).head(4)

# %%
# Severity
# --------
# By default severity is drawn from 0.1 to 1 for each ill patient, so that some films are hard. The
# same ``random_state`` gives the same patient in the same posture: only the disease grows.

severities = (0.1, 0.4, 0.7, 1.0)
for name in ("bacterial", "viral"):
    films = [
        make_chest_xrays(1, classes=(name,), severity=severity, random_state=11).images[0]
        for severity in severities
    ]
    show(films, [f"{name}, severity {severity}" for severity in severities])

# %%
# The same patient twice
# ----------------------
# Anatomy and exposure belong to the patient. Posture, breath and noise differ from film to film,
# much less than from patient to patient: a model can tell patients apart, which is why a split
# has to keep a patient on one side (see :ref:`sphx_glr_gallery_plot_40_patient_leakage.py`).

visits = make_chest_xrays(n_samples=40, n_patients=10, classes=("normal",), random_state=0)
patients, counts = np.unique(visits.groups, return_counts=True)
twice = patients[counts >= 2][:2]
rows = np.concatenate([np.flatnonzero(visits.groups == patient)[:2] for patient in twice])

show(
    visits.images[rows],
    ["patient A, film 1", "patient A, film 2", "patient B, film 1", "patient B, film 2"],
)

# %%
# View and marker, and how they mislead
# -------------------------------------
# AP films are taken of patients in bed: the heart looks larger, the diaphragm stands higher and
# the shoulder blades lie over the lungs. Markers are burned into half of the films.

posteroanterior, anteroposterior = (
    make_chest_xrays(1, view=view, classes=("normal",), random_state=2).images[0]
    for view in ("PA", "AP")
)
marked = make_chest_xrays(20, marker="random", classes=("normal",), random_state=5)
letter = int(np.flatnonzero(marked.frame["marker"] == "L")[0])
bar = int(np.flatnonzero(marked.frame["marker"] == "box")[0])

show(
    [posteroanterior, anteroposterior, marked.images[letter], marked.images[bar]],
    ["PA", "AP, the same patient", "marker L", "marker box"],
)

# %%
# On request both go with the disease, as in hospitals where the sick are filmed in bed. A model
# then learns the view, or the marker, and looks good until it meets another hospital.

shares = {}
for confounding in (0.0, 0.8):
    films = make_chest_xrays(
        300,
        image_size=16,
        view="mixed",
        view_confounding=confounding,
        marker="random",
        marker_confounding=confounding,
        random_state=0,
    ).frame
    ill = np.where(films["label"] == "normal", "normal", "ill")
    shares[confounding] = [
        films["view"].eq("AP").groupby(ill).mean(),
        films["marker"].ne("none").groupby(ill).mean(),
    ]

_, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for axis, (confounding, columns) in zip(axes, shares.items(), strict=True):
    for offset, label, color in ((-0.2, "normal", "#0072B2"), (0.2, "ill", "#E69F00")):
        heights = [column[label] for column in columns]
        axis.bar(np.arange(2) + offset, heights, width=0.38, label=label, color=color)
    axis.set_title(f"confounding {confounding}", fontsize=16)
    axis.set_xticks([0, 1], ["AP view", "marker"], fontsize=15)
    axis.tick_params(axis="y", labelsize=13)
axes[0].set(ylim=(0, 1))
axes[0].set_ylabel("share of the films", fontsize=15)
axes[0].legend(fontsize=14, loc="upper center", ncols=2)
plt.show()
