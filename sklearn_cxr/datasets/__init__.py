"""Chest radiographs to learn from: phantoms, folders, and downloads."""

from sklearn_cxr.datasets._fetch import fetch_kermany, fetch_pneumoniamnist, get_data_home
from sklearn_cxr.datasets._folder import load_image_folder
from sklearn_cxr.datasets._kermany import load_kermany
from sklearn_cxr.datasets._nih import load_nih
from sklearn_cxr.datasets._phantoms import make_chest_xrays

__all__ = [
    "fetch_kermany",
    "fetch_pneumoniamnist",
    "get_data_home",
    "load_image_folder",
    "load_kermany",
    "load_nih",
    "make_chest_xrays",
]
