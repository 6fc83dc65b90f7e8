"""What to do when a batch does not fit into the memory of the device."""

import contextlib

import torch

# How the CPU's allocator and Apple's GPU put it; for CUDA torch has a class of its own.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
# Of cuDNN and cuBLAS, which get their memory beside torch's allocator.
_WORDS += ("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error):
    """Tell whether an error says that the memory of a device, or of the host, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


@contextlib.contextmanager
def network_fits(device):
    """Say what to do where not even the network fits into the memory of the device.

    Parameters
    ----------
    device : torch.device
        Whose memory it is.

    Raises
    ------
    MemoryError
        If the memory is used up within the block.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"{device} ran out of memory while the network and its optimiser were placed there, "
            "before the first batch. End what else holds its memory, take a smaller network, or "
            "say device='cpu'."
        ) from error


def retried(attempt, relieve):
    """Try something, and once more where that used up the memory and some could be freed.

    Parameters
    ----------
    attempt : callable
        What is tried.

    relieve : callable
        Frees memory; returns whether there was any to free.

    Returns
    -------
    object
        What `attempt` returned.
    """
    try:
        return attempt()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or not relieve():
            raise
    # Not inside the handler, because the traceback holds what took the memory.
    give_back()
    return attempt()


def give_back():
    """Return to the GPU what torch keeps of its memory for later."""
    # Before the first use of a GPU nothing is kept, and it need not be woken up.
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def batch_that_fits(attempt, batch_size):
    """Halve the batch until an attempt goes through.

    Parameters
    ----------
    attempt : callable
        Takes a number of rows; raises torch's out-of-memory error where they are too many.

    batch_size : int
        What was too much.

    Returns
    -------
    int
        A number of rows that fits; 0 where not even one does.
    """
    size = batch_size // 2
    while size:
        give_back()
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size //= 2
        else:
            break
    return size


def out_of_memory(device, batch_size, fits, what):
    """Build the error that says which batch size would fit.

    Parameters
    ----------
    device : torch.device
        Whose memory it is.

    batch_size : int
        What was too much.

    fits : int
        What `batch_that_fits` found.

    what : str
        What was being done.

    Returns
    -------
    MemoryError
        To be raised.
    """
    advice = f"batch_size={fits} fits." if fits else "Not even one image fits: shrink the images."
    return MemoryError(
        f"{device} ran out of memory while {what} with batch_size={batch_size}. {advice}"
    )
