"""From shaped images to the rows that scikit-learn's other estimators take."""

from sklearn_cxr.preprocessing._base import IMAGE_SHAPE_CONSTRAINT, BaseImageTransformer


class Flatten(BaseImageTransformer):
    """Flatten images into rows, in (row, column[, channel]) order.

    ColumnTransformer, FeatureUnion, bagging and samplers take 2-D arrays only. Flat input
    passes through. Nothing is copied where the memory layout allows it.

    Parameters
    ----------
    image_shape : tuple of int or None, default=None
        ``(h, w)`` or ``(h, w, c)`` behind flat input. None means a square where the number of
        features is one, else one row. Shaped input tells its own.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of one image.

    input_kind_ : {"uint8", "uint16", "unit float", "other"}
        Kind of grey level seen in ``fit``; a batch of another kind raises.

    n_features_in_ : int
        Number of values in an image.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen in ``fit``, where `X` was a DataFrame.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import Flatten
    >>> images = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    >>> Flatten().fit_transform(images)
    array([[ 0,  1,  2,  3,  4,  5],
           [ 6,  7,  8,  9, 10, 11]], dtype=uint8)
    """

    _parameter_constraints: dict = {"image_shape": IMAGE_SHAPE_CONSTRAINT}

    def __init__(self, *, image_shape=None):
        self.image_shape = image_shape

    def _transform_images(self, images):
        return images.reshape(len(images), -1)
