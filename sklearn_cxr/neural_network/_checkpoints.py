"""Files of weights: found, downloaded, read, and put into a network whole or not at all."""

import hashlib
import http.client
import os
import pickle
import urllib.request
from pathlib import Path

import torch
from filelock import FileLock

from sklearn_cxr.exceptions import WeightsError
from sklearn_cxr.utils._atomic import replacing
from sklearn_cxr.utils._optional import import_optional

_TIMEOUT = 10
_NAMED = 5
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "model_state", "weights")
# What a classifier is called in files of networks that keep it apart from the backbone.
_HEADS = ("classifier.", "fc.", "head.", "heads.", "last_linear.", "classif.", "head_drop.")


def hub_folder():
    """Folder in which torch keeps what it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _file_sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path, expected):
    """Raise where a file is not the one that was meant.

    Parameters
    ----------
    path : path-like
        The file.

    expected : str or None
        Its SHA-256 in hexadecimal digits, or the beginning of it. None checks nothing.
    """
    if expected is None:
        return
    got = _file_sha256(path)
    if not got.startswith(expected.lower()):
        raise WeightsError(
            f"{path} has the SHA-256 {got}; expected {expected}. The file is damaged or not "
            "the one that was meant: get it again, or correct sha256."
        )


def fetch(url, *, name=None, sha256=None):
    """Path of a published file in torch's folder, downloaded where it is not there.

    Parameters
    ----------
    url : str
        Where it is.

    name : str or None, default=None
        Name in the folder; None takes the last part of `url`.

    sha256 : str or None, default=None
        Beginning of the checksum of what is downloaded.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    WeightsError
        If it is not there and cannot be downloaded.
    """
    path = hub_folder() / (name or url.rpartition("/")[2])
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.is_file():
                _download(url, path, sha256)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{url} could not be downloaded ({error}). On a machine with a network get that "
            f"file, and place it here as {path}; or pass weights=PATH of a file that you have, "
            "or weights=None for random ones."
        ) from error
    return path


def _download(url, path, sha256):
    request = urllib.request.Request(url, headers={"User-Agent": "sklearn-cxr"})
    with (
        urllib.request.urlopen(request, timeout=_TIMEOUT) as response,
        replacing(path) as temporary,
    ):
        with open(temporary, "wb") as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
            got, expected = file.tell(), response.headers.get("Content-Length")
        if expected is not None and got != int(expected):
            raise OSError(f"{got} of {expected} bytes came")
        check_sha256(temporary, sha256)


def read_state(path, *, sha256=None):
    """Tensors of a file by name, without whatever was wrapped around them.

    Parameters
    ----------
    path : path-like
        A ``.safetensors`` file, or one that ``torch.save`` wrote.

    sha256 : str or None, default=None
        Checksum that the file must have.

    Returns
    -------
    dict of str to Tensor
        In the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    WeightsError
        If it cannot be read, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights={os.fspath(path)!r} is no file. Expected the path of a .pth, .pt or "
            ".safetensors file, or the name of published weights."
        )
    check_sha256(path, sha256)
    if path.suffix == ".safetensors":
        load = import_optional("safetensors.torch", extra="weights", caller=f"Reading {path}")
        failures = (
            ValueError,
            OSError,
            import_optional(
                "safetensors", extra="weights", caller=f"Reading {path}"
            ).SafetensorError,
        )
        return _read(path, load.load_file, failures)
    return _read(path, _torch_load, (RuntimeError, EOFError, OSError, ValueError, KeyError))


def _torch_load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def _read(path, load, failures):
    try:
        content = load(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors, or is damaged ({str(error).splitlines()[0]}). "
            "Nothing but tensors is read, because anything else in a pickle can run code. Save "
            "torch.save(model.state_dict(), ...) from it and pass that file."
        ) from error
    except failures as error:
        raise WeightsError(f"{path} could not be read: {error}. Get the file again.") from error
    return unwrap(content, path)


def unwrap(content, path):
    """Find the tensors in what a file held.

    Parameters
    ----------
    content : object
        What was read.

    path : path-like
        For messages.

    Returns
    -------
    dict of str to Tensor
        The tensors.
    """
    while isinstance(content, dict):
        inner = next((k for k in _WRAPPERS if isinstance(content.get(k), dict)), None)
        if inner is None:
            break
        content = content[inner]
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f"{path} holds {type(content).__name__}; expected the tensors of a network by "
            "name, as torch.save(model.state_dict(), ...) writes them."
        )
    other = {k: type(v).__name__ for k, v in content.items() if not torch.is_tensor(v)}
    if other:
        raise WeightsError(
            f"{path} holds {_some(f'{k} ({v})' for k, v in other.items())} beside tensors; "
            "expected tensors by name only. Save model.state_dict() alone."
        )
    return dict(content)


def _some(names):
    names = list(names)
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _best_prefix(state, wanted):
    """Find what stands before the names of the network in the names of the file."""
    first = next(iter(wanted))
    prefixes = {""} | {name.removesuffix(first) for name in state if name.endswith("." + first)}
    return max(
        sorted(prefixes, key=lambda prefix: (len(prefix), prefix)),
        key=lambda prefix: sum(prefix + name in state for name in wanted),
    )


def _fit_stem(tensor, shape):
    """Bring a first layer for one channel to three: the repeated image gives the same."""
    if (
        len(shape) == tensor.ndim == 4
        and (tensor.shape[1], shape[1]) == (1, 3)
        and (tensor.shape[0], *tensor.shape[2:]) == (shape[0], *shape[2:])
    ):
        return tensor.expand(shape) / 3
    return tensor


def load_state(module, state, *, source, stem=None, heads=()):
    """Put tensors into a module, all of them or none.

    Parameters
    ----------
    module : nn.Module
        Changed in place.

    state : dict of str to Tensor
        Tensors by name. A prefix that all names of the module share is taken off.

    source : str
        Where they are from, for messages.

    stem : str or None, default=None
        Name of the first layer's kernel, which may be for one channel in the file.

    heads : tuple of str, default=()
        Beginnings of names that `state` may have and `module` not.

    Raises
    ------
    WeightsError
        If a tensor is missing, has another shape, is not finite, or is left over. The module
        is as it was then.
    """
    own = module.state_dict()
    prefix = _best_prefix(state, own)
    found, missing, mismatched = {}, [], []
    for name, target in own.items():
        tensor = state.get(prefix + name)
        if tensor is None:
            # Files from before torch 0.4.1 do not count batches, and nothing depends on it.
            if name.endswith("num_batches_tracked"):
                found[name] = torch.zeros_like(target)
            else:
                missing.append(name)
            continue
        if name == stem:
            tensor = _fit_stem(tensor, target.shape)
        if tensor.shape != target.shape:
            mismatched.append(
                f"{name} (file {tuple(tensor.shape)}, network {tuple(target.shape)})"
            )
        found[name] = tensor
    allowed = (*heads, *_HEADS)
    unknown = [
        name
        for name in state
        if name.removeprefix(prefix) not in own
        and not name.startswith(allowed)
        and not name.removeprefix(prefix).startswith(allowed)
    ]
    _raise_report(source, len(own), len(state), missing, mismatched, unknown)
    infinite = [k for k, v in found.items() if v.is_floating_point() and not v.isfinite().all()]
    if infinite:
        raise WeightsError(
            f"{source} holds NaN or infinite values in {_some(infinite)}. Get the file again."
        )
    module.load_state_dict(found, strict=True)


def _raise_report(source, n_own, n_state, missing, mismatched, unknown):
    if not (missing or mismatched or unknown):
        return
    lines = [
        f"{len(names)} {what}: {_some(names)}"
        for names, what in (
            (missing, "missing in the file"),
            (mismatched, "of another shape"),
            (unknown, "in the file but not in the network"),
        )
        if names
    ]
    raise WeightsError(
        f"{source} does not fit the network: the network has {n_own} tensors, the file "
        f"{n_state}. {'; '.join(lines)}. Nothing was loaded. Give the backbone that the file "
        "was saved from."
    )
