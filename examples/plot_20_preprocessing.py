"""
===========================================
What each preprocessing step does to a film
===========================================

Every transformer of :mod:`sklearn_cxr.preprocessing` takes a batch of images, shaped
``(n, height, width)`` or as flat rows, and gives the same form back. Here each of them is applied
to phantom films, so that its effect can be seen.
"""

# %%
# Films as they come
# ------------------
# A real film is rarely square, has black borders where the beam was collimated, and its contrast
# depends on the exposure. The phantoms are given all three: they are darkened, their contrast
# is reduced, and they are placed on a larger black canvas.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.preprocessing import (
    CropBorders,
    Flatten,
    HistogramEqualizer,
    IntensityScaler,
    LungCrop,
    PixelScaler,
    RandomPixelSampler,
    Resize,
    SquarePad,
)

phantoms = make_chest_xrays(n_samples=60, random_state=3)
films = np.zeros((60, 240, 320), dtype=np.uint8)
films[:, 8:232, 36:260] = 20 + phantoms.images * 0.45


def show(images, titles, *, levels=(0, 255), boxes=None):
    """Draw images side by side, all in the same grey levels."""
    _, axes = plt.subplots(1, len(images), figsize=(3.6 * len(images), 4.4), layout="constrained")
    for i, (axis, image, title) in enumerate(zip(axes, images, titles, strict=True)):
        axis.imshow(image, cmap="gray", vmin=levels[0], vmax=levels[1], interpolation="nearest")
        height, width = image.shape
        axis.set_title(f"{title}\n{height} x {width}", fontsize=15)
        axis.set(xticks=[], yticks=[])
        if boxes is not None and boxes[i] is not None:
            axis.plot(*boxes[i], color="gold", linewidth=2.5)


# %%
# Geometry
# --------
# :class:`~sklearn_cxr.preprocessing.Resize` alone stretches a film that is not square;
# after :class:`~sklearn_cxr.preprocessing.SquarePad` it does not.
# :class:`~sklearn_cxr.preprocessing.CropBorders` cuts the black borders off, and
# :class:`~sklearn_cxr.preprocessing.LungCrop` keeps the lung fields. Height and width are in
# pixels.

film = films[:1]
resized = Resize(128).fit_transform(film)
padded = SquarePad().fit_transform(film)
borders = CropBorders(size=224).fit(film)
without_borders = borders.transform(film)
lungs = LungCrop(size=224).fit(without_borders)
lung_fields = lungs.transform(without_borders)

show(
    [film[0], resized[0], padded[0]],
    ["the film", "Resize(128)", "SquarePad()"],
)

# %%
# Each geometric step knows where its output came from: ``geometry(X)`` gives an affine per
# image that maps points of the output to points of the input. The outline of the output, carried
# back by it, is the box that was kept.


def kept_box(step, images):
    """Outline of the first image's output in the coordinates of its input."""
    affine = step.geometry(images)[0]
    height, width = step.size_
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1], [0, 0, 1]])
    return affine @ corners.T


show(
    [film[0], without_borders[0], lung_fields[0]],
    ["kept by CropBorders", "kept by LungCrop", "the lung fields"],
    boxes=[kept_box(borders, film), kept_box(lungs, without_borders), None],
)

# %%
# Grey levels of one film
# -----------------------
# :class:`~sklearn_cxr.preprocessing.HistogramEqualizer` spreads the grey levels over the whole
# range: of the film at once, or within tiles, where the contrast is limited so that noise is not
# blown up. uint8 stays uint8. Below each film is the histogram of its grey levels.


def show_with_histograms(images, titles, levels):
    """Draw images, and the distribution of grey levels below each."""
    _, axes = plt.subplots(
        2, len(images), figsize=(3.6 * len(images), 6), height_ratios=(3, 1), layout="constrained"
    )
    for image, title, (low, high), (above, below) in zip(
        images, titles, levels, axes.T, strict=True
    ):
        above.imshow(image, cmap="gray", vmin=low, vmax=high)
        above.set_title(title, fontsize=15)
        above.axis("off")
        below.hist(image.ravel(), bins=64, range=(low, high), color="0.35")
        below.set_yticks([])
        below.tick_params(labelsize=13)


equalized = HistogramEqualizer().fit_transform(without_borders)
adaptive = HistogramEqualizer("adaptive", clip_limit=0.02).fit_transform(without_borders)

show_with_histograms(
    [without_borders[0], equalized[0], adaptive[0]],
    ["the film", "global", "adaptive"],
    [(0, 255)] * 3,
)

# %%
# :class:`~sklearn_cxr.preprocessing.IntensityScaler` shifts and stretches only. ``"unit"`` keeps
# the exposure visible, ``"standard"`` and ``"percentile"`` remove it from each image.

modes = ("unit", "standard", "percentile")
scaled = [IntensityScaler(mode).fit_transform(without_borders)[0] for mode in modes]

show_with_histograms(scaled, [f'"{mode}"' for mode in modes], [(0, 1), (-2.5, 2.5), (0, 1)])

# %%
# Pixels over the training set
# ----------------------------
# :class:`~sklearn_cxr.preprocessing.PixelScaler` learns the mean and the deviation of every pixel
# from all training images, in one pass; what it leaves of a film is what sets it apart from the
# average film. The films are cropped and equalised before.

ready = make_pipeline(CropBorders(size=128), HistogramEqualizer()).fit_transform(films)
scaler = PixelScaler().fit(ready)
standardised = scaler.transform(ready)

_, axes = plt.subplots(1, 3, figsize=(10.8, 4.2), layout="constrained")
panels = [
    ("mean_image_", scaler.mean_image_, 0, 255),
    ("a film", ready[0], 0, 255),
    ("the film, standardised", standardised[0], -3, 3),
]
for axis, (title, image, low, high) in zip(axes, panels, strict=True):
    axis.imshow(image, cmap="gray", vmin=low, vmax=high)
    axis.set_title(title, fontsize=15)
    axis.axis("off")

# %%
# From images to features
# -----------------------
# :class:`~sklearn_cxr.preprocessing.RandomPixelSampler` keeps the same randomly drawn pixels of
# every image, :class:`~sklearn_cxr.preprocessing.Flatten` all of them. Both give one row for
# each image, with a name for each pixel, and can give a DataFrame.

sampler = RandomPixelSampler(0.2, random_state=0).fit(ready)
only_chosen = np.full(ready[0].size, np.nan)
only_chosen[sampler.pixel_indices_] = sampler.transform(ready)[0]
rows = Flatten().fit_transform(Resize(16).fit_transform(ready))

_, axes = plt.subplots(1, 2, figsize=(10.8, 4.6), width_ratios=(1, 1.7), layout="constrained")
grey = plt.get_cmap("gray").with_extremes(bad="steelblue")
axes[0].imshow(only_chosen.reshape(128, 128), cmap=grey, vmin=0, vmax=255, interpolation="nearest")
axes[0].set_title("RandomPixelSampler(0.2)", fontsize=15)
axes[0].axis("off")
axes[1].imshow(rows, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
axes[1].set_title("Resize(16), Flatten(): 60 films", fontsize=15)
axes[1].set_xlabel("pixel", fontsize=13)
axes[1].set_ylabel("film", fontsize=13)

# %%
# With ``set_output`` the rows become a DataFrame whose columns say which pixel they are.

sampler.set_output(transform="pandas").transform(ready[:3]).iloc[:, :5]

# %%
# All of them are steps of a scikit-learn pipeline:

steps = make_pipeline(
    CropBorders(),
    SquarePad(),
    Resize(64),
    HistogramEqualizer(),
    PixelScaler(),
    Flatten(),
)
features = steps.fit_transform(films)
print(features.shape, features.dtype)

# %%
plt.show()
