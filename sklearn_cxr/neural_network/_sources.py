"""Rows of images handed out as batches on the device, from memory, a map or a view."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from sklearn_cxr.neural_network._inference import gather
from sklearn_cxr.neural_network._prepare import to_host_tensor

# A GPU also has to hold the network, its gradients and a batch's activations.
RESIDENT_SHARE = 0.5


class RowSource:
    """Rows of a batch by number, as tensors on the device.

    On a GPU the whole batch is put into its memory in its own dtype where it takes at most half
    of what is free there; else, and always on the CPU, rows are gathered where they lie.

    Parameters
    ----------
    X : ndarray or row-indexed view of shape (n, ...)
        The rows, shaped or flat.

    row_shape : tuple of int
        Shape of one row as the network takes it.

    device : torch.device
        Where the network computes.
    """

    def __init__(self, X, row_shape, device):
        self._X, self._row_shape, self.device = X, tuple(row_shape), device
        self.resident = device.type != "cpu" and _fits(X, device)
        if self.resident:
            whole = to_host_tensor(np.asarray(X)).reshape(len(X), *self._row_shape)
            self._whole = whole.to(device)

    def __len__(self):
        return len(self._X)

    def host(self, index):
        """Rows on the host, in page-locked memory where they go to a GPU."""
        rows = to_host_tensor(gather(self._X, index, self._row_shape))
        return rows.pin_memory() if self.device.type == "cuda" else rows

    def take(self, index):
        """Rows by number, on the device.

        Parameters
        ----------
        index : ndarray of shape (k,), dtype=intp
            Row numbers.

        Returns
        -------
        Tensor of shape (k, *row_shape)
            The rows in their own dtype.
        """
        if self.resident:
            return self._whole[torch.as_tensor(index, device=self.device)]
        return self.host(index).to(self.device, non_blocking=True)

    def stream(self, indices):
        """Rows of one batch after the other; the next is fetched while one is computed on.

        Parameters
        ----------
        indices : list of ndarray
            Row numbers of each batch.

        Yields
        ------
        Tensor
            The rows of each batch, on the device.
        """
        if self.resident or self.device.type == "cpu":
            for index in indices:
                yield self.take(index)
            return
        with ThreadPoolExecutor(1) as reader:
            following = None
            for index in indices:
                current, following = following, reader.submit(self.host, index)
                if current is not None:
                    yield current.result().to(self.device, non_blocking=True)
            if following is not None:
                yield following.result().to(self.device, non_blocking=True)


def _fits(X, device):
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return X.size * X.dtype.itemsize <= RESIDENT_SHARE * free


class Batches:
    """One epoch's batches of ``(rows, target)`` at each iteration.

    Parameters
    ----------
    source : RowSource
        The rows.

    targets : dict of str to Tensor
        What belongs to each row of the source, on the device.

    rows : ndarray of shape (k,), dtype=intp
        The rows that take part.

    batch_size : int
        Rows in a batch.

    shuffle : RandomState or None
        Draws the order of each iteration; None keeps that of `rows`.
    """

    def __init__(self, source, targets, rows, batch_size, *, shuffle=None):
        self.source, self.targets, self.rows = source, targets, np.asarray(rows, dtype=np.intp)
        self.batch_size, self.shuffle = batch_size, shuffle

    def __len__(self):
        """Count the batches."""
        return len(self._cuts()) + 1

    def __iter__(self):
        order = self.rows if self.shuffle is None else self.shuffle.permutation(self.rows)
        indices = np.split(order, self._cuts())
        for index, rows in zip(indices, self.source.stream(indices), strict=True):
            here = torch.as_tensor(index, device=self.source.device)
            yield rows, {name: values[here] for name, values in self.targets.items()}

    def _cuts(self):
        cuts = np.arange(self.batch_size, len(self.rows), self.batch_size)
        # Batch normalisation has no variance over a single image: it joins the batch before.
        if self.shuffle is not None and len(cuts) and len(self.rows) - cuts[-1] == 1:
            cuts = cuts[:-1]
        return cuts
