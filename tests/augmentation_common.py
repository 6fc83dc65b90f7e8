"""Images and a shorthand for the tests of augmentation."""

import numpy as np
import torch
from scipy import ndimage

from sklearn_cxr.neural_network._augmentation import augmentation_names, make_augmentation

OPERATIONS = [name for name in augmentation_names() if name not in ("light", "strong")]


def smooth_images(n=4, h=24, w=24, c=1, dtype=torch.float32):
    rng = np.random.RandomState(1)
    images = ndimage.gaussian_filter(rng.rand(n, c, h, w), (0, 0, 2, 2))
    images = (images - images.min()) / (images.max() - images.min())
    return torch.tensor(0.1 + 0.8 * images, dtype=dtype)


def apply(spec, images, **options):
    return make_augmentation(spec, **options)(images)
