"""
Where does the network look?
============================

Class activation maps show what in a film raises the score of a class. They look convincing on any
network, so this page first measures them: phantoms have a box around their consolidation, and maps
that know nothing, a random one and a blob in the centre, are held against the same boxes. Then the
films themselves are changed until the network calls them something else.
"""

# %%
# A small network
# ---------------
#
# Trained on phantoms of 400 patients, in a pipeline that halves the films first; the maps come
# back through it, so that they and the boxes are in the pixels of the original films.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection import (
    ActivationMapDisplay,
    CounterfactualDisplay,
    LocalizationDisplay,
    class_activation_map,
)
from sklearn_cxr.neural_network import CNNClassifier
from sklearn_cxr.preprocessing import Resize

classes = ("normal", "bacterial")
options = {"image_size": 128, "classes": classes, "severity": (0.4, 1.0)}
train = make_chest_xrays(400, n_patients=400, random_state=0, **options)
test = make_chest_xrays(60, n_patients=60, random_state=1, **options)


def averaging_network(image_shape, n_outputs):
    """Three convolutions whose last maps are averaged, as class activation maps need it."""
    layers, width = [], image_shape[2]
    for following in (16, 32, 64):
        layers += [
            nn.Conv2d(width, following, 3, padding=1),
            nn.BatchNorm2d(following),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        width = following
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_outputs)
    )


model = make_pipeline(
    Resize(64),
    CNNClassifier(
        averaging_network,
        lr=3e-3,
        lr_schedule="onecycle",
        batch_size=16,
        max_epochs=12,
        random_state=0,
    ),
)
model.fit(train.images, train.target)
print(f"Accuracy on new patients: {model.score(test.images, test.target):.2f}")

# %%
# Maps of films with a consolidation
# ----------------------------------
#
# Grad-CAM of the class "bacterial"; the box is where the opacity was painted.

ill = np.flatnonzero(test.target == 1)
films, boxes = test.images[ill], test.frame.loc[ill, ["x", "y", "w", "h"]]
ActivationMapDisplay.from_estimator(
    model, films, target=1, boxes=boxes, target_names=classes, n_images=4
)
plt.show()

# %%
# Measured
# --------
#
# The pointing game asks whether the brightest pixel lies in the box, energy how much of the map
# does, and the intersection over union how well its bright part fits the box. A map is worth
# looking at where it beats the blob.

maps = {
    method: class_activation_map(model, films, method=method, target=1).maps
    for method in ("cam", "gradcam", "gradcam++", "saliency", "integrated_gradients", "occlusion")
}
LocalizationDisplay.from_maps(
    maps,
    boxes,
    groups=test.groups[ill],
    metrics=["pointing_game", "energy", "iou@0.5"],
    random_state=0,
)
plt.show()

# %%
# What would have to change
# -------------------------
#
# Pixels are optimised toward the other class: a normal film toward "bacterial", a film with a
# consolidation toward "normal". The second loses grey where its opacity is; the first gains a few
# specks that no radiologist would call pneumonia.

pair = test.images[[np.flatnonzero(test.target == 0)[0], ill[0]]]
CounterfactualDisplay.from_estimator(
    model, pair, target=[1, 0], target_names=classes, steps=100, n_snapshots=3
)
plt.show()

# %%
# The same beginning with noise: the network is sure of what shows no patient at all.

CounterfactualDisplay.from_estimator(
    model,
    "noise",
    1,
    target_names=classes,
    steps=100,
    lr=0.02,
    tv=0.05,
    n_snapshots=3,
    random_state=0,
)
plt.show()
