"""
==============================================
Eigenimages: in how many ways do films differ?
==============================================

Principal components of pixels say in how many ways the films of a class differ from one another.
:class:`~sklearn_cxr.decomposition.PixelPCA` shows them as images, and goes back from components
to films.
"""

# %%
# Components for 70 % of the variance
# -----------------------------------
# One :class:`~sklearn_cxr.decomposition.PixelPCA` is fitted to the films of each class, at 64
# pixels. A share of variance as ``n_components`` keeps as many as it takes.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.decomposition import PixelPCA

phantoms = make_chest_xrays(600, n_patients=600, image_size=64, random_state=0)
images = {
    name: phantoms.images[phantoms.target == code]
    for code, name in enumerate(phantoms.target_names)
}
models = {name: PixelPCA(0.7).fit(films) for name, films in images.items()}
for name, model in models.items():
    print(f"{name:<9}: {model.n_components_} components for 70 % of the variance")

# %%
# More components mean films that differ in more ways. The curves are cumulative, over the first
# 40 components.

colors = {"normal": "#0072B2", "bacterial": "#E69F00", "viral": "#009E73"}
styles = {"normal": "-", "bacterial": "--", "viral": "-."}
_, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
for name, films in images.items():
    share = PixelPCA(40).fit(films).explained_variance_ratio_.cumsum()
    axis.plot(
        np.arange(1, 41), share, color=colors[name], ls=styles[name], linewidth=3, label=name
    )
axis.axhline(0.7, color="0.4", linestyle=":", linewidth=2)
axis.text(40, 0.71, "70 %", fontsize=14, ha="right", va="bottom", color="0.3")
axis.set(ylim=(0, 1), xlim=(0, 41))
axis.set_xlabel("components", fontsize=15)
axis.set_ylabel("share of the variance", fontsize=15)
axis.set_title("What the first components explain", fontsize=16)
axis.tick_params(labelsize=13)
axis.legend(fontsize=14, loc="lower right")

# %%
# The mean film and the first eigenimages
# ---------------------------------------
# Exposure comes first, then the shoulders, the diaphragm and the width of the chest: how a film
# was taken and of whom varies more than disease does. The number is the share of the variance. The
# sign of a component means nothing: orange and purple may be exchanged.

_, axes = plt.subplots(3, 5, figsize=(12, 7.6), layout="constrained")
for row, (name, model) in zip(axes, models.items(), strict=True):
    row[0].imshow(model.mean_image_, cmap="gray", vmin=0, vmax=255)
    row[0].set_ylabel(name, fontsize=17)
    for number, axis in enumerate(row[1:]):
        eigenimage = model.eigenimages_[number]
        limit = np.abs(eigenimage).max()
        axis.imshow(eigenimage, cmap="PuOr_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{model.explained_variance_ratio_[number]:.0%}", fontsize=16)
    for axis in row:
        axis.set(xticks=[], yticks=[])
axes[0, 0].set_title("mean", fontsize=16)

# %%
# Back to a film
# --------------
# ``inverse_transform`` draws a film from its components. Outlines come first; ribs, vessels and
# the edge of an opacity come late.

severity = phantoms.frame.loc[phantoms.frame["label"] == "bacterial", "severity"]
film = images["bacterial"][[severity.to_numpy().argmax()]]
shares = (0.5, 0.7, 0.9, 0.99)
_, axes = plt.subplots(1, 5, figsize=(15, 3.5), layout="constrained")
axes[0].imshow(film[0], cmap="gray", vmin=0, vmax=255)
axes[0].set_title("the film", fontsize=17)
for axis, share in zip(axes[1:], shares, strict=True):
    model = PixelPCA(share).fit(images["bacterial"])
    again = model.inverse_transform(model.transform(film))[0]
    axis.imshow(again, cmap="gray", vmin=0, vmax=255)
    axis.set_title(f"{share:.0%}: {model.n_components_} components", fontsize=17)
for axis in axes:
    axis.set(xticks=[], yticks=[])
# sphinx_gallery_thumbnail_number = 2
plt.show()
