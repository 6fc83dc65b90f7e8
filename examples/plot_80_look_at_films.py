"""
Look at the films before the models do
======================================

Displays in scikit-learn's manner: ``from_images``, ``from_features`` or ``from_estimator``
computes and draws, ``plot(ax=...)`` draws again elsewhere, and attributes hold the numbers.
"""

# %%
# A few of each class
# -------------------

import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.inspection import (
    ClassImageDisplay,
    EigenimageDisplay,
    EmbeddingDisplay,
    ImageGridDisplay,
)
from sklearn_cxr.preprocessing import HistogramEqualizer, Resize

films = make_chest_xrays(500, image_size=128, view="mixed", random_state=0)
named = {"target_names": films.target_names}
ImageGridDisplay.from_images(films.images, films.target, random_state=0, **named)
plt.show()

# %%
# Mean, deviation and difference
# ------------------------------
#
# Orange is where the films of a class are brighter than the normal ones, on average. A difference
# outside of the lungs is a warning: markers, borders and posture are easier to learn than disease.

ClassImageDisplay.from_images(films.images, films.target, **named)
# sphinx_gallery_thumbnail_number = 2
plt.show()

# %%
# Eigenimages
# -----------
#
# In how many ways do the films of a class differ? The number of components is what 70 % of the
# variance takes; above each image is its share.

EigenimageDisplay.from_images(films.images, films.target, **named)
plt.show()

# %%
# Films as points
# ---------------
#
# Two principal components, t-SNE, and k-means. Nothing here separates the classes: neighbours are
# alike in exposure, build and view.

figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
small = Resize(32).fit_transform(films.images)
for ax, method in zip(axes, ("pca", "tsne", "kmeans"), strict=True):
    EmbeddingDisplay.from_features(
        small, films.target, method=method, random_state=0, ax=ax, **named
    )
plt.show()

# %%
# The same films by view, after equalisation: now it is plain how each was taken.
# ``from_estimator`` takes any fitted transformer, a frozen network's features among them.

features = make_pipeline(Resize(64), HistogramEqualizer(), PixelPCA(20)).fit(films.images)
EmbeddingDisplay.from_estimator(
    features, films.images, films.frame["view"], method="tsne", random_state=0
)
plt.show()
