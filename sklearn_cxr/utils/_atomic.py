"""Files that are either whole or not there."""

import contextlib
import os
import uuid
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """Give a temporary name beside `path`, which becomes `path` when the block has succeeded.

    Parameters
    ----------
    path : path-like
        The file to write. An older file of that name stays until the new one is whole.

    Yields
    ------
    Path
        Where to write; it has the suffix of `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
