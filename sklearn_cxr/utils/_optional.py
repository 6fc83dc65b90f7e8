"""Import of packages that come with an extra, at first use."""

import importlib


def import_optional(module, *, extra, caller):
    """Import a package that is only needed by one part of the library.

    Parameters
    ----------
    module : str
        Dotted name of the module to import.

    extra : str
        Name of the extra of sklearn-cxr that installs it.

    caller : str
        What the user called, for the error message.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If the package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{caller} needs the package {module.partition('.')[0]!r}, which could not be "
            f"imported ({error}). Install it with: pip install 'sklearn-cxr[{extra}]'"
        ) from error
