"""From image files to arrays, and from arrays to better arrays."""

from sklearn_cxr.preprocessing._crop import CropBorders
from sklearn_cxr.preprocessing._equalize import HistogramEqualizer
from sklearn_cxr.preprocessing._flatten import Flatten
from sklearn_cxr.preprocessing._geometry import map_boxes, pipeline_geometry
from sklearn_cxr.preprocessing._intensity import IntensityScaler
from sklearn_cxr.preprocessing._lungs import LungCrop
from sklearn_cxr.preprocessing._pixel_scaler import PixelScaler
from sklearn_cxr.preprocessing._reader import ImageReader
from sklearn_cxr.preprocessing._resize import Resize, SquarePad
from sklearn_cxr.preprocessing._rows import ImageRows
from sklearn_cxr.preprocessing._sampler import RandomPixelSampler

__all__ = [
    "CropBorders",
    "Flatten",
    "HistogramEqualizer",
    "ImageReader",
    "ImageRows",
    "IntensityScaler",
    "LungCrop",
    "PixelScaler",
    "RandomPixelSampler",
    "Resize",
    "SquarePad",
    "map_boxes",
    "pipeline_geometry",
]
