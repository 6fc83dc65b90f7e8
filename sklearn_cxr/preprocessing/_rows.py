"""A row-indexed view of images that lie in memory-mapped files."""

import math
import os

import numpy as np

from sklearn_cxr.utils._files import mapped_whole


class ImageRows:
    """Images by row number, wherever their pixels lie.

    The rows of a cross-validation fold are a gather that one memory map cannot express; this
    view keeps, for each row, the block and the position in it. It behaves like a read-only
    array in what estimators ask of one: `shape`, `dtype`, ``len``, ``np.asarray``, indexing.
    Indexing rows by a slice, a mask or a list gives another view and copies nothing; anything
    that reaches into the images gives an ndarray. For arithmetic take ``np.asarray`` first.

    Pickling stores the names of the mapped files, not their pixels, but for maps whose images do
    not lie one behind the other.

    Parameters
    ----------
    blocks : list of ndarray of shape (m, h, w[, c])
        Where the pixels lie: memory maps, or small arrays.

    block_index : array-like of shape (n,), int
        Block of each row.

    row_index : array-like of shape (n,), int
        Position of each row in its block.

    flat : bool, default=False
        Whether a row is flat: the view is 2-D then.

    Attributes
    ----------
    shape : tuple of int
        ``(n, h, w[, c])`` or ``(n, h*w[*c])``.

    dtype : dtype
        Of the pixels.

    ndim : int
        Number of dimensions.

    size : int
        Number of pixels in all.

    nbytes : int
        Bytes that ``np.asarray`` would take.

    Raises
    ------
    ValueError
        If the blocks differ in the shape of an image or in dtype.

    See Also
    --------
    ImageReader : Returns such a view where it has a `cache_dir`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.preprocessing import ImageRows
    >>> block = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    >>> rows = ImageRows([block], [0, 0, 0], [2, 0, 1])
    >>> rows[:2]
    ImageRows(shape=(2, 2, 2), dtype=uint8, blocks=1)
    >>> rows[0]
    array([[ 8,  9],
           [10, 11]], dtype=uint8)
    """

    def __init__(self, blocks, block_index, row_index, *, flat=False):
        self._blocks = list(blocks)
        self._block = np.asarray(block_index, dtype=np.intp)
        self._row = np.asarray(row_index, dtype=np.intp)
        self._flat = flat
        kinds = {(block.shape[1:], np.dtype(block.dtype)) for block in self._blocks}
        if len(kinds) > 1:
            raise ValueError(
                "The blocks of ImageRows hold images of one shape and dtype, got "
                f"{sorted(f'{shape} {dtype}' for shape, dtype in kinds)}. Bring them to one first."
            )

    @property
    def shape(self):
        """Shape of the array that this stands for."""
        image = self._blocks[0].shape[1:]
        return (len(self._row), math.prod(image)) if self._flat else (len(self._row), *image)

    @property
    def dtype(self):
        """Data type of the pixels."""
        return self._blocks[0].dtype

    @property
    def ndim(self):
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self):
        """Number of pixels in all."""
        return math.prod(self.shape)

    @property
    def nbytes(self):
        """Bytes that the whole would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self):
        return len(self._row)

    def __repr__(self):
        return f"ImageRows(shape={self.shape}, dtype={self.dtype}, blocks={len(self._blocks)})"

    def __array__(self, dtype=None, copy=None):
        whole = self._as_slice()
        if whole is not None and not copy:
            out = _read_only(whole.reshape(self.shape))
        elif copy is False:
            raise ValueError(
                "These rows lie apart: an array of them cannot be had without a copy."
            )
        else:
            out = self._gather()
        return out if dtype is None else out.astype(dtype, copy=False)

    def _as_slice(self):
        """Return the rows as a plain slice of one block, or None where they are not one."""
        n = len(self._row)
        if n == 0 or (self._block != self._block[0]).any() or (np.diff(self._row) != 1).any():
            return None
        # np.asarray drops the memmap class, not the mapping.
        return np.asarray(self._blocks[self._block[0]])[self._row[0] : self._row[0] + n]

    def _gather(self):
        out = np.empty((len(self._row), *self._blocks[0].shape[1:]), dtype=self.dtype)
        for number in np.unique(self._block):
            here = np.flatnonzero(self._block == number)
            # Row by row: fancy indexing of the map would make a second copy of them all.
            for position in here:
                out[position] = self._blocks[number][self._row[position]]
        return out.reshape(self.shape)

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        if any(part is None for part in key) or sum(part is Ellipsis for part in key) > 1:
            raise IndexError("Rows are indexed without new axes and with one ellipsis at most.")
        rows, inside = (slice(None), key) if not key or key[0] is Ellipsis else (key[0], key[1:])
        if not isinstance(rows, slice):
            rows = self._row_numbers(rows)
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            image = np.asarray(self._blocks[self._block[rows]][self._row[rows]])
            return _read_only(image.reshape(self.shape[1:]))[inside]
        view = ImageRows(self._blocks, self._block[rows], self._row[rows], flat=self._flat)
        if all(_is_everything(part) for part in inside):
            return view
        if not isinstance(rows, slice) and any(np.ndim(part) for part in inside):
            # Two index arrays are taken pairwise, which NumPy alone does right.
            return np.asarray(self)[(rows, *inside)]
        return np.asarray(view)[(slice(None), *inside)]

    @staticmethod
    def _row_numbers(rows):
        """Bring what selects rows to integers or a mask."""
        rows = np.asarray(rows)
        if rows.size == 0 and rows.dtype.kind == "f":
            rows = rows.astype(np.intp)  # an empty list
        if rows.dtype.kind not in "iub" or rows.ndim > 1 or (rows.dtype == bool and not rows.ndim):
            raise IndexError(
                "Rows are selected by an integer, a slice, or a 1-D array of integers or of "
                f"booleans, got {rows.dtype} of shape {rows.shape}."
            )
        return rows

    def pieces(self):
        """Yield the rows block by block, for a pass over them in whatever order.

        Yields
        ------
        block : ndarray of shape (m, h, w[, c])
            One of the mapped files.

        rows : ndarray of shape (k,), dtype=intp
            Rows of `block` that belong to the view, in the order of the file.

        places : ndarray of shape (k,), dtype=intp
            Their positions in the view.
        """
        for number, block in enumerate(self._blocks):
            places = np.flatnonzero(self._block == number)
            places = places[np.argsort(self._row[places], kind="stable")]
            if len(places):
                yield np.asarray(block), self._row[places], places

    def reshape(self, *shape):
        """Give the view another form, shaped or flat; anything else becomes an ndarray.

        Parameters
        ----------
        *shape : int or tuple of int
            The new shape; one side may be -1.

        Returns
        -------
        ImageRows or ndarray
            A view where only the form of the rows changes.
        """
        if len(shape) == 1 and isinstance(shape[0], tuple | list):
            shape = tuple(shape[0])
        image = self._blocks[0].shape[1:]
        n = len(self)
        if shape in ((n, -1), (n, math.prod(image)), (-1, math.prod(image))):
            return ImageRows(self._blocks, self._block, self._row, flat=True)
        if shape in ((n, *image), (-1, *image)):
            return ImageRows(self._blocks, self._block, self._row)
        return np.asarray(self).reshape(shape)

    def __getstate__(self):
        used, block = np.unique(self._block, return_inverse=True)
        blocks = [_block_state(self._blocks[i]) for i in used]
        return {
            # A view of no rows still has to know the shape of one.
            "blocks": blocks or [np.array(self._blocks[0][:0])],
            "block": block,
            "row": self._row,
            "flat": self._flat,
        }

    def __setstate__(self, state):
        blocks = [_block_from_state(block) for block in state["blocks"]]
        self.__init__(blocks, state["block"], state["row"], flat=state["flat"])


def _is_everything(part):
    return part is Ellipsis or (isinstance(part, slice) and part == slice(None))


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


def _block_state(block):
    whole = mapped_whole(block)
    if not isinstance(block, np.memmap) or not isinstance(whole.filename, str | os.PathLike):
        return block
    # What was written to a copy-on-write map is in memory alone.
    if not block.flags.c_contiguous or whole.mode == "c":
        return np.array(block)
    # A part of a map says that it begins where the whole does.
    begin = block.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return {
        "filename": whole.filename,
        "offset": whole.offset + begin,
        "shape": block.shape,
        "dtype": block.dtype,
    }


def _block_from_state(state):
    if isinstance(state, np.ndarray):
        return state
    try:
        return np.memmap(mode="r", **state)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"The decode store's file {state['filename']} is gone or has changed ({error}). Read "
            "the images again with ImageReader.transform."
        ) from error
