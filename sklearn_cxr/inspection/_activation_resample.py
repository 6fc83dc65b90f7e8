"""Maps carried to the pixels of the originals."""

import functools

import numpy as np
from scipy.ndimage import map_coordinates

from sklearn_cxr.preprocessing._geometry import compose_affines


def to_original(maps, size, affines, sizes):
    """Bring maps of what a model sees to the pixels of the original films.

    Parameters
    ----------
    maps : ndarray of shape (n, rows, columns)
        Maps; each covers the whole image that enters the model, however coarse it is.

    size : tuple of (int, int)
        Height and width of the images that enter the model.

    affines : ndarray of shape (n, 2, 3)
        From their pixels to those of the originals.

    sizes : list of (int, int)
        Height and width of the originals.

    Returns
    -------
    ndarray of shape (n, h, w), dtype float32, or list of n of shape (h, w)
        Maps of the originals, a list where these differ in size. Interpolated bilinearly,
        averaged where pixels are larger than cells; 0 where the model sees nothing.
    """
    cell = np.zeros((len(maps), 2, 3))
    cell[:, 0, 0] = size[1] / maps.shape[2]
    cell[:, 1, 1] = size[0] / maps.shape[1]
    affines = compose_affines(affines, cell)
    carried = (_carry(*each) for each in zip(maps, affines, sizes, strict=True))
    if len(set(sizes)) > 1:
        return list(carried)
    out = np.empty((len(maps), *sizes[0]), dtype=np.float32)
    for target, source in zip(out, carried, strict=True):
        target[...] = source
    return out


def _carry(values, affine, size):
    values = values.astype(np.float32, copy=False)
    if affine[0, 1] or affine[1, 0]:
        return _turned(values, affine, size)
    rows, columns = (
        axis_weights(values.shape[axis], size[axis], float(affine[i, i]), float(affine[i, 2]))
        for axis, i in ((0, 1), (1, 0))
    )
    return rows @ values @ columns.T


@functools.lru_cache(maxsize=64)
def axis_weights(n_cells, n_pixels, scale, start):
    """Share of each cell in each pixel along an axis.

    Parameters
    ----------
    n_cells, n_pixels : int
        How many there are.

    scale, start : float
        Cell u begins at pixel ``scale * u + start``.

    Returns
    -------
    ndarray of shape (n_pixels, n_cells), dtype float32
        The shares: 1 in sum, or 0 for a pixel beyond the cells.
    """
    centre = (np.arange(n_pixels) + 0.5 - start) / scale
    seen = (centre >= 0) & (centre <= n_cells)
    # A triangle as wide as a cell interpolates; one as wide as a pixel averages.
    reach = max(1.0, 1 / abs(scale))
    nearest = np.clip(centre, 0.5, n_cells - 0.5) if reach == 1 else centre
    distance = np.abs(nearest[:, None] - (np.arange(n_cells) + 0.5))
    weights = np.clip(1 - distance / reach, 0, None)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return (weights * seen[:, None]).astype(np.float32)


def _turned(values, affine, size):
    """Carry a map by an affine that turns it: sampled bilinearly."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    inverse = np.linalg.inv(affine[:, :2])
    u, v = np.einsum("ij,j...->i...", inverse, np.stack([x - affine[0, 2], y - affine[1, 2]]))
    inside = (u >= 0) & (u <= values.shape[1]) & (v >= 0) & (v <= values.shape[0])
    carried = map_coordinates(values, [v - 0.5, u - 0.5], order=1, mode="nearest")
    return (carried * inside).astype(np.float32)
