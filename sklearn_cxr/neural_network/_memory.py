"""What to do when a batch does not fit into the memory of the device."""

import torch

# How the CPU's allocator and Apple's GPU put it; for CUDA torch has a class of its own.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error):
    """Tell whether an error says that the memory of a device, or of the host, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


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
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
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
