"""Rows of images handed out as batches on the device, from memory, a map or a view."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from sklearn_cxr.neural_network._inference import gather
from sklearn_cxr.neural_network._memory import give_back, is_out_of_memory
from sklearn_cxr.neural_network._prepare import send, to_host_tensor
from sklearn_cxr.utils._chunks import chunk_slices

# A GPU also has to hold the network, its gradients and a batch's activations.
RESIDENT_SHARE = 0.5
_CHUNK_BYTES = 2**26


class RowSource:
    """Rows of a batch by number, as tensors on the device.

    On a GPU the whole batch is put into its memory where it takes at most half of what is free
    there; else, and always on the CPU, rows are gathered where they lie.

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
        self._whole = self._on_device() if _fits(X, self._row_shape, device) else None

    @property
    def resident(self):
        """Whether all rows are in the memory of the GPU."""
        return self._whole is not None

    def _on_device(self):
        """All rows on the device; None where its memory is too small after all."""
        try:
            return whole_on_device(self._X, self._row_shape, self.device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        give_back()
        return None

    def leave_device(self):
        """Give the memory of resident rows back; from now on they come batch by batch.

        Returns
        -------
        bool
            Whether there were any.
        """
        resident, self._whole = self.resident, None
        return resident

    def __len__(self):
        return len(self._X)

    def host(self, index):
        """Rows on the host, in page-locked memory where they go to a GPU."""
        rows = to_host_tensor(gather(self._X, index, self._row_shape), self.device)
        return rows.pin_memory() if self.device.type == "cuda" else rows

    def take(self, index, here=None):
        """Rows by number, on the device.

        Parameters
        ----------
        index : ndarray of shape (k,), dtype=intp
            Row numbers.

        here : Tensor of shape (k,) or None, default=None
            The same on the device, where they are there already.

        Returns
        -------
        Tensor of shape (k, *row_shape)
            The rows in their own dtype.
        """
        if self.resident:
            here = send(torch.as_tensor(index), self.device) if here is None else here
            return self._whole[here]
        return self.host(index).to(self.device, non_blocking=True)

    def stream(self, indices, places=None):
        """Rows of one batch after the other; the next is fetched while one is computed on.

        Parameters
        ----------
        indices : list of ndarray
            Row numbers of each batch.

        places : list of Tensor or None, default=None
            The same on the device.

        Yields
        ------
        Tensor
            The rows of each batch, on the device.
        """
        if self.resident or self.device.type == "cpu":
            for index, here in zip(indices, places or [None] * len(indices), strict=True):
                yield self.take(index, here)
            return
        with ThreadPoolExecutor(1) as reader:
            following = None
            for index in indices:
                current, following = following, reader.submit(self.host, index)
                if current is not None:
                    yield current.result().to(self.device, non_blocking=True)
            if following is not None:
                yield following.result().to(self.device, non_blocking=True)


def _fits(X, row_shape, device):
    if device.type != "cuda":
        return False
    # What torch keeps of an earlier fit is free as well.
    give_back()
    free, _ = torch.cuda.mem_get_info(device)
    return len(X) * _row_bytes(X, row_shape) <= RESIDENT_SHARE * free


def _row_bytes(X, row_shape):
    """Bytes of a row as torch holds it, which may be more than it was stored in."""
    return math.prod(row_shape) * to_host_tensor(np.empty(0, X.dtype)).element_size()


def whole_on_device(X, row_shape, device):
    """Copy all rows to a device, piece by piece, so that the host never holds them twice.

    Parameters
    ----------
    X : ndarray or row-indexed view of shape (n, ...)
        The rows, shaped or flat.

    row_shape : tuple of int
        Shape of one row.

    device : torch.device
        Where they go.

    Returns
    -------
    Tensor of shape (n, *row_shape)
        The rows, in the dtype that torch holds theirs in.
    """
    dtype = to_host_tensor(np.empty(0, X.dtype)).dtype
    whole = torch.empty((len(X), *row_shape), dtype=dtype, device=device)
    step = max(1, _CHUNK_BYTES // max(1, _row_bytes(X, row_shape)))
    for rows in chunk_slices(len(X), math.prod(row_shape), step):
        piece = np.asarray(X[rows])
        whole[rows].copy_(to_host_tensor(piece).reshape(len(piece), *row_shape))
    return whole


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
        cuts = self._cuts()
        # One copy for the epoch: a GPU would wait for one at every batch.
        whole = send(torch.as_tensor(order), self.source.device)
        indices, places = np.split(order, cuts), whole.tensor_split(cuts.tolist())
        batches = self.source.stream(indices, places)
        for here, rows in zip(places, batches, strict=True):
            yield rows, {name: values[here] for name, values in self.targets.items()}

    def _cuts(self):
        cuts = np.arange(self.batch_size, len(self.rows), self.batch_size)
        # Batch normalisation has no variance over a single image: it joins the batch before.
        if self.shuffle is not None and len(cuts) and len(self.rows) - cuts[-1] == 1:
            cuts = cuts[:-1]
        return cuts
