"""From image files to arrays, and from arrays to better arrays."""

from sklearn_cxr.preprocessing._flatten import Flatten
from sklearn_cxr.preprocessing._reader import ImageReader
from sklearn_cxr.preprocessing._rows import ImageRows

__all__ = ["Flatten", "ImageReader", "ImageRows"]
