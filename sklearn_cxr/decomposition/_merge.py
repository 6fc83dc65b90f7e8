"""Principal axes of images that come in parts."""

import dataclasses

import numpy as np
from scipy.linalg import eigh

# Beside the axes that are asked for so many more are carried along, lest what a later part
# strengthens was thrown away with an earlier one.
_SPARE = 20
_CHUNK_BYTES = 32 * 2**20


@dataclasses.dataclass
class Sketch:
    """The leading part of a scatter matrix, and all else that merging with new rows needs.

    Parameters
    ----------
    values : ndarray of shape (k,)
        Leading eigenvalues of the scatter matrix, falling.

    axes : ndarray of shape (k, n_features)
        Their eigenvectors.

    mean : ndarray of shape (n_features,)
        Mean of the rows.

    n : int
        Number of rows.

    total : float
        Trace of the whole scatter matrix.
    """

    values: np.ndarray
    axes: np.ndarray
    mean: np.ndarray
    n: int
    total: float

    @classmethod
    def of_nothing(cls, n_features):
        """Return what is known before the first row."""
        return cls(np.zeros(0), np.zeros((0, n_features)), np.zeros(n_features), 0, 0.0)

    def step(self):
        """Return a number of rows to add at once: as many as there are axes, or a few MiB."""
        return max(len(self.values), _CHUNK_BYTES // (8 * len(self.mean)), 1)

    def add(self, rows):
        """Add rows [1]_; the axes and their number grow by them.

        Parameters
        ----------
        rows : ndarray of shape (m, n_features)
            In float64.

        References
        ----------
        .. [1] D. A. Ross, J. Lim, R.-S. Lin and M.-H. Yang, "Incremental learning for robust
           visual tracking", International Journal of Computer Vision 77, 2008.
        """
        m = len(rows)
        mean = rows.mean(axis=0)
        centred, shift = rows - mean, mean - self.mean
        between = self.n * m / (self.n + m)
        self.total += float(np.vdot(centred, centred) + between * (shift @ shift))
        stack = [
            np.sqrt(self.values)[:, None] * self.axes,
            centred,
            np.sqrt(between) * shift[None],
        ]
        self.mean = self.mean + shift * (m / (self.n + m))
        self.n += m
        most = min(self.n, len(mean))
        self.values, self.axes = axes_of_rows(np.concatenate(stack), most)

    def cut(self, n_components):
        """Keep so many axes and some to spare."""
        kept = 2 * n_components + _SPARE
        self.values, self.axes = self.values[:kept], self.axes[:kept]


def axes_of_rows(rows, n_components=None):
    """Eigenvalues and eigenvectors of ``rows.T @ rows`` by the smaller of the Gram matrices.

    Parameters
    ----------
    rows : ndarray of shape (n, n_features)
        The rows.

    n_components : int, callable or None, default=None
        How many are kept, or what tells so from the eigenvalues. None keeps all.

    Returns
    -------
    values : ndarray of shape (k,)
        Falling, none negative.

    axes : ndarray of shape (k, n_features)
        Orthonormal.
    """
    by_rows = len(rows) < rows.shape[1]
    values, vectors = eigh(rows @ rows.T if by_rows else rows.T @ rows)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    kept = n_components(values) if callable(n_components) else n_components
    values, vectors = values[:kept], vectors[:, :kept]
    axes = vectors.T @ rows if by_rows else vectors.T
    if by_rows:
        lengths = np.linalg.norm(axes, axis=1)
        axes = axes / np.where(lengths > 0, lengths, 1)[:, None]
        if values[-1] <= 1e-10 * values[0]:
            # Axes without variance are noise here; they still have to be orthonormal.
            axes = np.linalg.qr(axes.T)[0].T
    return values, axes
