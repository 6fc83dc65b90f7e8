"""
How deep a network?
===================

A depth study trains one network with more and more layers, leaves everything else as it is, and
judges each depth on patients that it has not seen. That is a validation curve over the number of
layers, and scikit-learn's own draws it. Here are two: convolutions of a network from scratch, and
dense layers on the features of a frozen one.
"""

# %%
# Films, and folds of whole patients
# ----------------------------------
#
# The disease is faint in many films, lest every depth find all of it. A seeded splitter makes the
# same folds for every depth, so that all of them learn from and are judged on the same patients.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import (
    StratifiedGroupKFold,
    ValidationCurveDisplay,
    validation_curve,
)

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.neural_network import CNNClassifier, DenseHeadClassifier

options = {
    "n_samples": 300,
    "n_patients": 150,
    "classes": ("normal", "viral"),
    "severity": (0.1, 0.8),
    "random_state": 0,
}
films = make_chest_xrays(image_size=32, **options)
study = {
    "groups": films.groups,
    "cv": StratifiedGroupKFold(4, shuffle=True, random_state=0),
    "scoring": "roc_auc",
}

# %%
# Convolutions
# ------------
#
# ``channels`` of :class:`~sklearn_cxr.neural_network.CNNClassifier` holds one number for each
# convolution, so its length is the depth. ``validation_curve`` takes such tuples as they are; the
# display gets their lengths.

depths = [1, 2, 3, 4]
network = CNNClassifier(
    dense=(),
    batch_norm=True,
    lr=3e-3,
    lr_schedule="onecycle",
    max_epochs=8,
    batch_size=16,
    random_state=0,
)
train_scores, test_scores = validation_curve(
    network,
    films.images,
    films.target,
    param_name="channels",
    param_range=[(8, 16, 32, 64)[:depth] for depth in depths],
    **study,
)


def draw(name, depths, train_scores, test_scores):
    """Draw the curve, and a thin line for the test patients of each fold behind it."""
    figure, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    lines = ax.plot(depths, test_scores, color="0.6", linewidth=1.2, zorder=1)
    lines[0].set_label("Test, each fold")
    display = ValidationCurveDisplay(
        param_name=name,
        param_range=np.array(depths),
        train_scores=train_scores,
        test_scores=test_scores,
        score_name="AUC",
    )
    display.plot(
        ax=ax,
        std_display_style="errorbar",
        errorbar_kw={"marker": "o", "markersize": 8, "linewidth": 2.5, "capsize": 4},
    )
    display.errorbar_[0].lines[0].set(linestyle="--", marker="s")
    ax.get_legend().remove()
    figure.legend(fontsize=13, loc="outside upper center", ncols=3)
    ax.set(ylim=(0.75, 1.01), xticks=depths)
    ax.set_xlabel(name, fontsize=14)
    ax.set_ylabel("AUC, mean and deviation", fontsize=14)
    ax.tick_params(labelsize=13)
    plt.show()


draw("convolutions", depths, train_scores, test_scores)

# %%
# The folds differ from each other by more than the depths do, because some patients are easier
# than others. Every depth meets the same test patients, however, so a gain is read within a fold.
# Three convolutions are better than one in each of them; whether a fourth helps is not settled.


def gains(name, depths, test_scores):
    """Tabulate what each depth gains over the one before it, fold by fold."""
    steps = np.diff(test_scores, axis=0)
    table = {
        "AUC": test_scores.mean(axis=1),
        "deviation of the folds": test_scores.std(axis=1),
        "gain over the row above": [np.nan, *steps.mean(axis=1)],
        "folds with a gain": ["", *(f"{n} of {steps.shape[1]}" for n in (steps > 0).sum(axis=1))],
    }
    return pd.DataFrame(table, index=pd.Index(depths, name=name)).round(3)


gains("convolutions", depths, test_scores)

# %%
# Dense layers on frozen features
# -------------------------------
#
# The same patients at 96 pixels go through a network that was trained on photographs. It learns
# nothing from them, so its features may be computed before the folds are made. On top come one
# dense layer, which is a logistic regression, to nine; published heads have three, six and nine.

features = BackboneFeatures("efficientnet_lite0").fit_transform(
    make_chest_xrays(image_size=96, **options).images
)
layers = [1, 3, 6, 9]
head = DenseHeadClassifier(max_epochs=10, batch_size=32, random_state=0)
train_scores, test_scores = validation_curve(
    head,
    features,
    films.target,
    param_name="hidden",
    param_range=[(128,) * (n - 1) for n in layers],
    **study,
)
draw("dense layers", layers, train_scores, test_scores)
gains("dense layers", layers, test_scores)

# %%
# One layer learns the training films by heart, and more of them gain nothing: the mean falls a
# little, by less than the folds differ, and a step that helps in one fold harms in another. That
# is no proof that depth harms, but a reason to take the smallest head.
#
# What the curves do not show
# ---------------------------
#
# - *Depth alone.* A convolution brings its pooling, so a deeper network also sees more of the film
#   at once, and is wider at its end. The learning rate and the number of epochs are the same for
#   all, which suits some depths better than others: where the training curve is low, more epochs
#   may change the picture.
# - *An error of the mean.* The folds share most of their training patients, so their deviation is
#   no standard error. One ``random_state`` is one draw of the initial weights; try several.
# - *What to expect of the winner.* A depth that is chosen by these folds looks better on them than
#   it is. Judge it on patients that no fold has held.
# - *Anything about real films.* Here the disease is one drawn texture, and how many layers find it
#   is a property of the drawing.
#
# With films of your own
# ----------------------
#
# The pipeline reads the files, once for all depths, and the parameter gets the name of its step:
#
# .. code-block:: python
#
#    films = load_image_folder("films", labels="films.csv", group_column="patient")
#    model = make_pipeline(
#        ImageReader(size=150, cache_dir="store"), CNNClassifier(batch_norm=True, random_state=0)
#    )
#    train_scores, test_scores = validation_curve(
#        model,
#        films.images,
#        films.target,
#        groups=films.groups,
#        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
#        scoring="roc_auc",
#        param_name="cnnclassifier__channels",
#        param_range=[(32,), (32, 64), (32, 64, 128), (32, 64, 128, 128)],
#    )
