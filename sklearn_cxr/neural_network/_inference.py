"""Images through a network that does not learn: gathered as stored, prepared where it computes."""

import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from sklearn_cxr.neural_network._memory import batch_that_fits, is_out_of_memory, out_of_memory
from sklearn_cxr.neural_network._network import channels_last
from sklearn_cxr.neural_network._prepare import to_host_tensor

# Pixels that one core takes at a time: what a layer makes of more leaves its cache, and glibc
# gets every block of over 32 MiB from the system anew. Eight images are the fastest for
# DenseNet-121 and EfficientNet-Lite0 at 224 pixels.
_PIECE_PIXELS = 8 * 224 * 224
# Modules of these keep nothing of a call, so that several threads can be in them at once.
_REENTRANT = frozenset(("torch", "torchvision", "timm", "sklearn_cxr"))


def batches_in_order(n_images, batch_size):
    """Yield the positions of one batch after the other.

    Parameters
    ----------
    n_images : int
        Number of images.

    batch_size : int
        Images in a batch; the last may have fewer.

    Yields
    ------
    ndarray of int
        Positions.
    """
    for start in range(0, n_images, batch_size):
        yield np.arange(start, min(start + batch_size, n_images))


def forward_batches(
    module,
    X,
    *,
    batch_size,
    device,
    dtype,
    prepare=None,
    image_shape=None,
    on_batch=None,
    verbose=0,
    description=None,
):
    """Send all images through a network.

    Parameters
    ----------
    module : nn.Module
        Gives one row of numbers for each image. `inference_copy` made it for this device and
        dtype.

    X : ndarray or row view of shape (n, h, w), (n, h, w, c) or (n, n_values)
        Images as they are stored.

    batch_size : int
        Images in a batch.

    device : torch.device
        Where to compute.

    dtype : torch.dtype
        What the network computes in.

    prepare : callable or None, default=None
        Called as ``prepare(batch, dtype)`` with a batch as stored, on the device; returns what
        the network takes. None where the network takes batches as they are stored.

    image_shape : tuple of int or None, default=None
        Shape of one image where `X` is flat. None means that of `X`.

    on_batch : callable or None, default=None
        Called with the positions and the rows of every batch, as soon as they are known.

    verbose : int, default=0
        With 1, a progress bar.

    description : str or None, default=None
        What stands before the progress bar.

    Returns
    -------
    ndarray of shape (n, n_outputs), dtype=float32
        One row for each image; float64 where `dtype` is.

    Raises
    ------
    MemoryError
        If a batch does not fit into the memory of the device; says which would.
    """
    out = None
    steps = iterate_batches(
        module,
        X,
        batches_in_order(len(X), batch_size),
        device=device,
        dtype=dtype,
        prepare=prepare,
        image_shape=image_shape,
    )
    with tqdm(total=len(X), unit="img", desc=description, disable=not verbose) as bar:
        for positions, rows in steps:
            if out is None:
                out = np.empty((len(X), *rows.shape[1:]), dtype=rows.dtype)
            out[positions] = rows
            if on_batch is not None:
                on_batch(positions, rows)
            bar.update(len(positions))
    return out


def iterate_batches(module, X, batches, *, device, dtype, prepare=None, image_shape=None):
    """Send batches of images through a network, and yield what comes out batch by batch.

    On a GPU the next batch is gathered and copied while the network computes, and results are
    fetched one batch late. On the CPU every core takes pieces of a batch through the network,
    which is faster than all cores sharing every layer; a network of the user's gets whole
    batches.

    Parameters
    ----------
    module : nn.Module
        Gives one row of numbers for each image. `inference_copy` made it for this device and
        dtype.

    X : ndarray or row view of shape (n, h, w), (n, h, w, c) or (n, n_values)
        Images as they are stored.

    batches : iterable of ndarray of int
        Positions of the images of each batch. It is advanced in this thread.

    device : torch.device
        Where to compute.

    dtype : torch.dtype
        What the network computes in.

    prepare : callable or None, default=None
        Called as ``prepare(batch, dtype)`` with a batch as stored, on the device. None where the
        network takes batches as they are stored.

    image_shape : tuple of int or None, default=None
        Shape of one image where `X` is flat. None means that of `X`.

    Yields
    ------
    positions : ndarray of int
        As `batches` gave them.

    rows : ndarray of shape (len(positions), n_outputs), dtype=float32
        What the network answers; float64 where `dtype` is.

    Raises
    ------
    MemoryError
        If a batch does not fit into the memory of the device; says which would.
    """
    image_shape = tuple(X.shape[1:]) if image_shape is None else tuple(image_shape)
    waiting, lag = deque(), int(device.type == "cuda")
    n_pixels = int(np.prod(image_shape[:2])) if len(image_shape) > 1 else 0
    with _computing(module, prepare, dtype, device, n_pixels) as compute:
        for positions, images in _feed(X, batches, image_shape, device):
            waiting.append((positions, _fetcher(_answer(compute, images, device))))
            if len(waiting) > lag:
                done, fetch = waiting.popleft()
                yield done, fetch()
        for done, fetch in waiting:
            yield done, fetch()


def gather(X, positions, image_shape):
    """Rows of a batch as an array, wherever they lie.

    Parameters
    ----------
    X : ndarray or row view
        Images as they are stored.

    positions : ndarray of int
        Distinct positions, in any order.

    image_shape : tuple of int
        Shape of one image.

    Returns
    -------
    ndarray of shape (len(positions), *image_shape)
        The images; a view where they lie side by side in an array.
    """
    if (np.diff(positions) == 1).all():
        batch = np.asarray(X[positions[0] : positions[-1] + 1])
    else:
        # HDF5 takes positions in rising order only.
        order = np.argsort(positions, kind="stable")
        batch = np.asarray(X[positions[order]])
        if (np.diff(order) != 1).any():
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            batch = batch[back]
    return batch.reshape(len(positions), *image_shape)


def _feed(X, batches, image_shape, device):
    """Yield each batch with its positions, on the device."""
    if device.type != "cuda":
        for positions in batches:
            yield positions, to_host_tensor(gather(X, positions, image_shape), device).to(device)
        return

    def pinned(positions):
        return positions, to_host_tensor(gather(X, positions, image_shape)).pin_memory()

    for positions, images in one_ahead(pinned, batches):
        yield positions, images.to(device, non_blocking=True)


def one_ahead(function, items):
    """Map a function over items; the next call runs in a thread while a result is used.

    Parameters
    ----------
    function : callable
        Takes an item.

    items : iterable
        Advanced in the calling thread, one item ahead.

    Yields
    ------
    object
        What the function returned for each item, in order.
    """
    with ThreadPoolExecutor(1) as thread:
        ahead = None
        for item in items:
            current, ahead = ahead, thread.submit(function, item)
            if current is not None:
                yield current.result()
        if ahead is not None:
            yield ahead.result()


def _answer(compute, images, device):
    try:
        return compute(images)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Not inside the handler, because the traceback holds what took the memory.
    fits = batch_that_fits(lambda n: compute(images[:n]), len(images))
    raise out_of_memory(device, len(images), fits, "computing what a network answers")


@contextlib.contextmanager
def _computing(module, prepare, dtype, device, n_pixels):
    """Give what brings a batch through the network; `n_pixels` of rows that are no images is 0."""

    def whole(images):
        return _forward(module, images, prepare, dtype)

    if device.type != "cpu" or not n_pixels or not _is_reentrant(module):
        yield whole
        return
    n_threads = torch.get_num_threads()

    def in_pieces(images):
        # As many for each core, and none of one image, which takes another path through oneDNN.
        rounds = -(-len(images) * n_pixels // (_PIECE_PIXELS * n_threads))
        n_pieces = min(rounds * n_threads, len(images) // 2)
        if n_pieces < 2:
            return whole(images)
        run = map if n_threads == 1 else pool.map
        return _joined(list(run(whole, images.tensor_split(n_pieces))))

    # Threads begin with the first piece: one image needs none.
    with ThreadPoolExecutor(n_threads, initializer=_one_core) as pool:
        yield in_pieces


def _is_reentrant(module):
    """Tell whether several threads can call a module at once."""
    return all(
        getattr(part, "reentrant", type(part).__module__.partition(".")[0] in _REENTRANT)
        for part in module.modules()
    )


def _one_core():
    """Let this thread compute alone; what it is to torch's others stays."""
    # torch sets the number at its first use in a thread.
    torch.get_num_threads()
    ThreadpoolController().limit(limits=1, user_api="openmp")


@torch.inference_mode()
def _joined(rows):
    return torch.cat(rows)


# Not around the loops above: a generator would leave the mode on while its caller runs.
@torch.inference_mode()
def _forward(module, images, prepare, dtype):
    if prepare is not None:
        images = channels_last(prepare(images, dtype))
    rows = module(images)
    return rows.to(torch.float64 if dtype == torch.float64 else torch.float32)


def _fetcher(rows):
    """Begin to copy rows to the host; return a function that waits for them."""
    if rows.device.type != "cuda":
        return rows.cpu().numpy
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    host.copy_(rows, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(rows.device))

    def wait():
        copied.synchronize()
        # A copy, because pinned memory is scarce and goes back.
        return host.numpy().copy()

    return wait
