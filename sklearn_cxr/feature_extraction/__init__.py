"""Features of images from networks that were trained elsewhere."""

from sklearn_cxr.feature_extraction._features import BackboneFeatures

__all__ = ["BackboneFeatures"]
