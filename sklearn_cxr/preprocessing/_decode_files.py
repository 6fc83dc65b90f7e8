"""Many files on several threads, in order, a few at a time."""

from joblib import Parallel, delayed, effective_n_jobs
from tqdm.auto import tqdm

from sklearn_cxr.exceptions import ImageFormatError
from sklearn_cxr.preprocessing._decode import decode, load_bytes
from sklearn_cxr.preprocessing._segments import content_hash

# Enough to make a task worth handing over, few enough that workers finish together.
_FILES_PER_TASK = 16
_TASKS_PER_WORKER = 32


def decode_files(paths, options, *, on_error, with_hash, n_jobs=None, verbose=0):
    """Decode files.

    Parameters
    ----------
    paths : list of str
        The files.

    options : ReadOptions
        What decides the pixels.

    on_error : {"raise", "report"}
        Whether a file that cannot be read raises, or has its error yielded.

    with_hash : bool
        Whether the hash of the content is wanted.

    n_jobs : int or None, default=None
        Number of threads.

    verbose : int, default=0
        With 1, a progress bar.

    Yields
    ------
    content : tuple of (int, int), or None
        Hash of the file's content, where it is wanted.

    image : ndarray or ImageFormatError
        The image, or why there is none.
    """
    size = len(paths) // (_TASKS_PER_WORKER * effective_n_jobs(n_jobs))
    size = min(_FILES_PER_TASK, max(1, size))
    tasks = (
        delayed(_decode_some)(paths[i : i + size], options, on_error, with_hash)
        for i in range(0, len(paths), size)
    )
    parallel = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")
    with tqdm(total=len(paths), desc="Reading images", unit="img", disable=not verbose) as bar:
        for results in parallel(tasks):
            yield from results
            bar.update(len(results))


def with_advice(error):
    """Say in the error of one file what can be done about all such files.

    Parameters
    ----------
    error : ImageFormatError
        Names the file and the reason.

    Returns
    -------
    ImageFormatError
        The same, and what to do.
    """
    return ImageFormatError(
        f"{error} ImageReader().report(X) lists all files that cannot be read, and "
        "drop_unreadable(X, y, groups) leaves them out."
    )


def _decode_some(paths, options, on_error, with_hash):
    results = []
    for path in paths:
        try:
            content = load_bytes(path)
            key = content_hash(content) if with_hash else None
            results.append((key, decode(path, content, options)))
        except ImageFormatError as error:
            if on_error == "raise":
                raise with_advice(error) from error.__cause__
            results.append((None, error))
    return results
