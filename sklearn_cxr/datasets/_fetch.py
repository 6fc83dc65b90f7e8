"""Data sets from the network, kept in a cache folder."""

import os
from collections import defaultdict
from numbers import Integral
from os import PathLike
from pathlib import Path

import numpy as np
from filelock import FileLock

from sklearn_cxr.datasets._bunch import make_bunch, read_descr
from sklearn_cxr.datasets._download import extract_zip, fetch_file, new_folder
from sklearn_cxr.datasets._files import merge_groups, number_sets, path_array
from sklearn_cxr.datasets._kermany import list_class_folders, load_kermany
from sklearn_cxr.exceptions import DatasetError, DownloadError, LeakageRiskWarning
from sklearn_cxr.utils._sklearn import Interval, Options, StrOptions, validate_params
from sklearn_cxr.utils._warn import warn

CACHE_VARIABLE = "SKLEARN_CXR_CACHE"

_ZENODO_PAGE = "https://zenodo.org/records/10519652"
_ZENODO_FILES = f"{_ZENODO_PAGE}/files/"
# As the package medmnist publishes them: medmnist/info.py, keys MD5, MD5_64, MD5_128, MD5_224.
_PNEUMONIAMNIST = {
    28: ("pneumoniamnist.npz", "md5:28209eda62fecd6e6a2d98b1501bb15f"),
    64: ("pneumoniamnist_64.npz", "md5:8f4eceb4ccffa70c672198ea285246c6"),
    128: ("pneumoniamnist_128.npz", "md5:05b46931834c231683c68f40c47b2971"),
    224: ("pneumoniamnist_224.npz", "md5:d6a3c71de1b945ea11211b03746c1fe1"),
}

_MENDELEY_PAGE = "https://data.mendeley.com/datasets/rscbjbr9sj/2"
_MENDELEY_URL = (
    "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
    "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded"
)
_KERMANY_NAME = "ChestXRay2017.zip"
# A checksum published by the authors was not found. This SHA-256 is the one that three unrelated
# public projects record for the file of 1,235,512,464 bytes; the number of images of each class is
# checked after extraction as well.
_KERMANY_HASH = "sha256:13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36"
_KERMANY_COUNTS = {
    ("train", "NORMAL"): 1349,
    ("train", "PNEUMONIA"): 3883,
    ("test", "NORMAL"): 234,
    ("test", "PNEUMONIA"): 390,
}

_FETCH_CONSTRAINTS = {
    "data_home": [str, PathLike, None],
    "download_if_missing": ["boolean"],
    "verbose": [Interval(Integral, 0, None, closed="left"), "boolean"],
    "return_X_y": ["boolean"],
    "as_frame": ["boolean"],
}


@validate_params({"data_home": [str, PathLike, None]}, prefer_skip_nested_validation=True)
def get_data_home(data_home=None):
    """Folder in which the ``fetch_*`` functions keep what they download.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder to use, ``~`` being expanded. None means the environment variable
        ``SKLEARN_CXR_CACHE``, and where that is not set, ``~/.cache/sklearn_cxr``.

    Returns
    -------
    str
        Absolute path. The folder is made by the first download, not here.

    Examples
    --------
    >>> from sklearn_cxr.datasets import get_data_home
    >>> get_data_home("/tmp/films")
    '/tmp/films'
    """
    if data_home is None:
        data_home = os.environ.get(CACHE_VARIABLE) or os.path.join("~", ".cache", "sklearn_cxr")
    return os.path.abspath(os.path.expanduser(os.fspath(data_home)))


def _read_npz(path, splits, size):
    """Images, labels and split of each image of the archive."""
    images, labels, names = [], [], []
    with np.load(path, allow_pickle=False) as archive:
        for split in splits:
            keys = f"{split}_images", f"{split}_labels"
            if not set(keys) <= set(archive.files):
                raise DatasetError(
                    f"{path} holds {archive.files}, and not {' and '.join(keys)}; delete it and "
                    "call again."
                )
            images.append(archive[keys[0]])
            labels.append(archive[keys[1]].ravel().astype(np.int64))
            names += [split] * len(labels[-1])
    images, labels = np.concatenate(images), np.concatenate(labels)
    if images.shape != (len(labels), size, size) or images.dtype != np.uint8:
        raise DatasetError(
            f"{path} holds images of shape {images.shape} and type {images.dtype}; expected "
            f"({len(labels)}, {size}, {size}) and uint8."
        )
    return images, labels, np.array(names)


def _pixel_groups(images, splits):
    """One group for each image; images of equal pixels share one."""
    by_content = defaultdict(list)
    for index, image in enumerate(images):
        by_content[image.tobytes()].append(index)
    keys = [
        f"{split}_image{index:04d}" for split, index in zip(splits, _rank(splits), strict=True)
    ]
    return merge_groups(keys, number_sets(by_content.values(), len(images)))


def _rank(splits):
    """Position of each image within its split."""
    rank = np.empty(len(splits), dtype=np.int64)
    for split in set(splits.tolist()):
        rows = np.flatnonzero(splits == split)
        rank[rows] = np.arange(len(rows))
    return rank


def _write_pngs(folder, images):
    """Write images as PNG files into a folder that appears only when it is complete."""
    from PIL import Image

    names = [f"{index:04d}.png" for index in range(len(images))]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with new_folder(folder) as temporary:
                for name, image in zip(names, images, strict=True):
                    Image.fromarray(image).save(temporary / name, compress_level=1)
    if sorted(os.listdir(folder)) != names:
        raise DatasetError(
            f"{folder} should hold {len(names)} images and was changed; delete it and call again."
        )
    return [str(folder / name) for name in names]


@validate_params(
    {
        **_FETCH_CONSTRAINTS,
        "size": [Options(Integral, set(_PNEUMONIAMNIST))],
        "subset": [StrOptions({"train", "val", "test", "all"})],
    },
    prefer_skip_nested_validation=True,
)
def fetch_pneumoniamnist(
    *,
    size=28,
    data_home=None,
    subset="train",
    download_if_missing=True,
    verbose=0,
    return_X_y=False,
    as_frame=False,
):
    """Load PneumoniaMNIST, downloading it from Zenodo where it is not in the cache.

    These are the images of :func:`fetch_kermany`, cut to the central square and resized. They
    come without file names and so without patients: a LeakageRiskWarning says so.

    Parameters
    ----------
    size : {28, 64, 128, 224}, default=28
        Height and width of the images in pixels.

    data_home : str or path-like, default=None
        Folder of the cache; see :func:`get_data_home`.

    subset : {"train", "val", "test", "all"}, default="train"
        Split to load, as its authors made it.

    download_if_missing : bool, default=True
        Download the file where it is not in the cache. False is an error there.

    verbose : int, default=0
        Draw a progress bar while downloading where it is positive.

    return_X_y : bool, default=False
        Return ``(X, y)`` instead of a Bunch.

    as_frame : bool, default=False
        X is a DataFrame with the columns ``path``, ``age``, ``sex`` and ``view``, y a Series. The
        images are then written once as PNG files into the cache folder.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        images : ndarray of shape (n_images, size, size), dtype uint8
            Grey levels.
        target : ndarray of shape (n_images,), dtype int64, or Series
            0 is normal, 1 is pneumonia.
        target_names : list of str
            ``["normal", "pneumonia"]``.
        groups : ndarray of shape (n_images,) of str
            One group for each image, as patients are not known; equal images share one.
        frame : DataFrame
            One row per image: ``path`` (only with ``as_frame=True``), ``target``, ``patient``,
            ``split``, ``age``, ``sex``, ``view`` (all were taken AP).
        data : DataFrame
            X as described at `as_frame`; only with ``as_frame=True``.
        DESCR : str
            Description of the data set.

    (X, y) : tuple
        Only with ``return_X_y=True``.

    Raises
    ------
    DownloadError
        If the file is not in the cache and cannot be downloaded, or its checksum is wrong. The
        message says which file to place where by hand.

    References
    ----------
    .. [1] Yang J. et al. "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D
       biomedical image classification". Scientific Data 10, 41, 2023.

    Examples
    --------
    >>> from sklearn_cxr.datasets import fetch_pneumoniamnist
    >>> data = fetch_pneumoniamnist(size=64)  # doctest: +SKIP
    >>> data.images.shape  # doctest: +SKIP
    (4708, 64, 64)
    """
    home = Path(get_data_home(data_home))
    name, known_hash = _PNEUMONIAMNIST[size]
    path = fetch_file(
        f"{_ZENODO_FILES}{name}?download=1",
        folder=home,
        name=name,
        known_hash=known_hash,
        page=_ZENODO_PAGE,
        caller="fetch_pneumoniamnist",
        download=download_if_missing,
        verbose=verbose,
    )
    images, target, splits = _read_npz(
        path, ("train", "val", "test") if subset == "all" else (subset,), size
    )
    warn(
        "PneumoniaMNIST does not tell patients: images of one child may fall on both sides of a "
        "split. Where that matters, use fetch_kermany.",
        LeakageRiskWarning,
    )
    paths = None
    if as_frame:
        folder = home / f"pneumoniamnist_{size}_png"
        order = dict.fromkeys(splits.tolist())
        paths = path_array(
            [
                file
                for split in order
                for file in _write_pngs(folder / split, images[splits == split])
            ]
        )
    return make_bunch(
        images,
        target=target,
        target_names=["normal", "pneumonia"],
        groups=_pixel_groups(images, splits),
        descr=read_descr("pneumoniamnist"),
        columns={"split": splits, "view": ["AP"] * len(images)},
        paths=paths,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _check_kermany(folder):
    """Raise where an extracted folder does not hold the published number of images."""
    got = {key: len(names) for key, names in list_class_folders(folder).items()}
    if got != _KERMANY_COUNTS:
        raise DownloadError(
            f"{folder} holds {got}, expected {_KERMANY_COUNTS} images; delete this folder and "
            "call fetch_kermany again."
        )


@validate_params(
    {
        **_FETCH_CONSTRAINTS,
        "subset": [StrOptions({"train", "test", "all"})],
        "task": [StrOptions({"binary", "subtype"})],
    },
    prefer_skip_nested_validation=True,
)
def fetch_kermany(
    *,
    data_home=None,
    subset="train",
    task="binary",
    download_if_missing=True,
    verbose=0,
    return_X_y=False,
    as_frame=False,
):
    """Load the radiographs of Kermany et al., downloading them from Mendeley Data where needed.

    The archive ``ChestXRay2017.zip`` (1.2 GB) is kept in the cache folder and extracted beside
    itself into ``ChestXRay2017``; once that is done the archive may be deleted. A broken download
    goes on where it ended.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the cache; see :func:`get_data_home`.

    subset : {"train", "test", "all"}, default="train"
        Official split to load.

    task : {"binary", "subtype"}, default="binary"
        ``"binary"``: 0 is normal, 1 is pneumonia. ``"subtype"``: 0 is normal, 1 bacterial and 2
        viral pneumonia.

    download_if_missing : bool, default=True
        Download the archive where it is not in the cache. False is an error there.

    verbose : int, default=0
        Draw a progress bar while downloading where it is positive.

    return_X_y : bool, default=False
        Return ``(X, y)`` instead of a Bunch.

    as_frame : bool, default=False
        X is a DataFrame with the columns ``path``, ``age``, ``sex`` and ``view``, y a Series.

    Returns
    -------
    :class:`~sklearn.utils.Bunch` or tuple
        What :func:`load_kermany` returns for the extracted folder.

    Raises
    ------
    DownloadError
        If the archive is not in the cache and cannot be downloaded, its checksum is wrong, or it
        does not hold the published number of images. The message says which file to place where
        by hand.

    See Also
    --------
    load_kermany : The same from a folder that you have.

    References
    ----------
    .. [1] Kermany D., Zhang K., Goldbaum M. "Labeled optical coherence tomography (OCT) and
       chest X-ray images for classification". Mendeley Data, V2, 2018.
       https://doi.org/10.17632/rscbjbr9sj.2

    Examples
    --------
    >>> from sklearn_cxr.datasets import fetch_kermany
    >>> data = fetch_kermany(subset="all", task="subtype", verbose=1)  # doctest: +SKIP
    >>> data.images.shape  # doctest: +SKIP
    (5856,)
    """
    home = Path(get_data_home(data_home))
    folder = home / Path(_KERMANY_NAME).stem
    if not folder.is_dir():
        archive = fetch_file(
            _MENDELEY_URL,
            folder=home,
            name=_KERMANY_NAME,
            known_hash=_KERMANY_HASH,
            page=_MENDELEY_PAGE,
            caller="fetch_kermany",
            download=download_if_missing,
            verbose=verbose,
        )
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                extract_zip(archive, folder, check=_check_kermany)
    _check_kermany(folder)
    return load_kermany(folder, subset=subset, task=task, return_X_y=return_X_y, as_frame=as_frame)
