"""
The penalty, at 32 and at 224 pixels
====================================

How strong has the penalty of a logistic regression on pixels to be? A published study [1]_ tuned
it on 32-pixel films, because no more fitted into memory, and found that 128 pixels then did
worse: a penalty that suits 1,024 pixels is not the one for 16,384.
:class:`~sklearn_cxr.linear_model.PixelLogisticRegressionCV` tunes it at the full size, by patient.

.. [1] Their penalty is written ``lambda * |theta|^2`` beside the sum of the loss, which is
   ``C = 1 / (2 * lambda)``: their best, 1500, is C = 3.3e-4.
"""

# %%
# Films of 220 patients
# ---------------------
#
# The same phantoms at both sizes. Replace them with films of your own: ``ImageReader(size=224,
# cache_dir="store").fit_transform(paths)`` gives rows that are read where they lie, so 112,120
# films of 224 pixels (5.6 GB) need no more memory than these.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.linear_model import PixelLogisticRegressionCV

sizes = (32, 224)
films = {
    size: make_chest_xrays(440, image_size=size, severity=(0.3, 1.0), random_state=0)
    for size in sizes
}
y = (films[32].target > 0).astype(int)
patients = films[32].groups

# %%
# Seven penalties, three folds of whole patients
# ----------------------------------------------
#
# Within a fold every fit starts where the one with the next stronger penalty ended. The choice
# is the strongest penalty that is as good as the best within one standard error.

Cs = np.logspace(-6, 0, 7)
searches = {
    size: PixelLogisticRegressionCV(Cs, cv=3, one_standard_error=True).fit(
        films[size].images, y, groups=patients
    )
    for size in sizes
}

# %%
# The path
# --------

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
for (size, search), marker, shift in zip(searches.items(), "os", (0.96, 1.04), strict=True):
    mean = search.scores_.mean(axis=0)
    error = search.scores_.std(axis=0, ddof=1) / np.sqrt(len(search.scores_))
    (line, *_) = ax.errorbar(
        search.Cs_ * shift, mean, error, marker=marker, capsize=3, label=f"{size} pixels"
    )
    at = list(search.Cs_).index(search.C_)
    ax.plot(
        search.C_ * shift,
        mean[at],
        marker,
        markersize=15,
        fillstyle="none",
        color=line.get_color(),
    )
ax.set(
    xscale="log",
    xlabel="C (inverse strength of the penalty); chosen: ringed",
    ylabel="AUC, mean and standard error of 3 folds",
)
ax.legend()
plt.show()

# %%
# What the models look at
# -----------------------
#
# Log odds of pneumonia per standard deviation of a pixel. At 224 pixels the weight of one patch
# of lung is spread over 49 times as many pixels.

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for ax, (size, search) in zip(axes, searches.items(), strict=True):
    coefficients = search.coef_image_[0]
    limit = np.abs(coefficients).max()
    image = ax.imshow(coefficients, cmap="PuOr_r", vmin=-limit, vmax=limit)
    ax.set_title(f"{size} pixels, C = {search.C_:.0e}")
    ax.axis("off")
    figure.colorbar(image, ax=ax, shrink=0.8)
plt.show()

# %%
# The same on ChestX-ray14
# ------------------------
#
# With the films of the NIH Clinical Center in a folder ``nih`` (``Data_Entry_2017.csv``, the two
# lists and the images), these lines repeat it. The films are decoded once, into the folder
# ``store``; for a part of the release say ``missing="warn"``, for the other size ``size=32``. Then
# draw ``search.scores_`` and ``search.coef_image_`` as above.
#
# .. code-block:: python
#
#    import numpy as np
#    from sklearn_cxr.datasets import load_nih
#    from sklearn_cxr.linear_model import PixelLogisticRegressionCV
#    from sklearn_cxr.preprocessing import ImageReader
#
#    nih = load_nih("nih", subset="train_val", task="pneumonia")
#    reader = ImageReader(size=224, cache_dir="store", n_jobs=-1, verbose=1)
#    rows = reader.fit_transform(nih.images)
#    search = PixelLogisticRegressionCV(
#        np.logspace(-6, 0, 7), cv=3, one_standard_error=True, verbose=1
#    )
#    search.fit(rows, nih.target, groups=nih.groups)
#    print(search.C_, search.scores_.mean(axis=0))
