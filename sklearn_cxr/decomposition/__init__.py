"""Low-dimensional descriptions of images."""

from sklearn_cxr.decomposition._pca import PixelPCA

__all__ = ["PixelPCA"]
