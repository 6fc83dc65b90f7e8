"""What models see that are not allowed to look at the lungs."""

import warnings

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_cxr.exceptions import FallbackWarning
from sklearn_cxr.inspection._audit_associations import readings_of
from sklearn_cxr.inspection._audit_films import file_facts
from sklearn_cxr.preprocessing import LungCrop
from sklearn_cxr.utils._warn import warn

_SIDE, _BLOCK = 80, 4
_GRID = _SIDE // _BLOCK
_RING = 3  # blocks, 15 % of the side: a burned-in letter fits in
_THUMBNAIL = 8
_BINS = 32
_LUNG_FILMS = 40
_LEAST_MASKS = 3
_LUNG_SHARE = 0.02
_FILE_COLUMNS = ["file_size", "format", "mode", "bit_depth", "width", "height", "photometric"]


def pixel_features(films, wanted, rng):
    """Features of each probe that looks at pixels.

    Parameters
    ----------
    films : Films
        The films.

    wanted : list of str
        Names of the probes.

    rng : RandomState
        Chooses the films in which lungs are looked for.

    Returns
    -------
    features : dict of ndarray of shape (n, n_features)
        By probe.

    region : ndarray of shape (20, 20), dtype bool, or None
        Blocks that "outside_lungs" does not see.
    """
    region = _lung_region(films, rng) if "outside_lungs" in wanted else None
    inner = np.zeros((_GRID, _GRID), dtype=bool)
    inner[_RING:-_RING, _RING:-_RING] = True
    collected = {name: [] for name in wanted if name != "metadata"}
    bad = {}
    for rows, images, _, problems in films.batches():
        bad.update({int(rows[i]): reason for i, (_, reason) in problems.items()})
        reduced = np.stack(
            [
                np.asarray(Image.fromarray(im).resize((_SIDE, _SIDE), Image.Resampling.BOX))
                for im in images
            ]
        )
        blocks = reduced.reshape(-1, _GRID, _BLOCK, _GRID, _BLOCK).astype(np.float32)
        mean, most = blocks.mean(axis=(2, 4)), blocks.max(axis=(2, 4))
        seen = {
            "border": lambda mean=mean, most=most: _outside(mean, most, inner),
            "outside_lungs": lambda mean=mean, most=most: _outside(mean, most, region),
            "thumbnail": lambda reduced=reduced: _thumbnails(reduced),
            "histogram": lambda images=images: _histograms(images),
        }
        for name, parts in collected.items():
            parts.append(seen[name]())
    if bad:
        row, reason = next(iter(bad.items()))
        raise ValueError(
            f"{films.caller} got {len(bad)} films without usable pixels; the first, row {row}: "
            f"{reason}. audit_dataset lists them; leave them out."
        )
    return {name: np.concatenate(parts) for name, parts in collected.items()}, region


def _outside(mean, most, inner):
    return np.concatenate([mean[:, ~inner], most[:, ~inner]], axis=1)


def _thumbnails(reduced):
    side = _SIDE // _THUMBNAIL
    blocks = reduced.reshape(-1, _THUMBNAIL, side, _THUMBNAIL, side)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(reduced), -1)


def _histograms(images):
    levels = images.reshape(len(images), -1) >> 3
    counts = np.stack([np.bincount(row, minlength=_BINS) for row in levels])
    # The root evens out the noise of counts.
    return np.sqrt(counts / levels.shape[1], dtype=np.float32)


def _lung_region(films, rng):
    """Blocks where any but the rarest film has lung, or what lies between the lungs.

    The same region for all films: one that followed the lungs of each film would tell of the
    disease by its own shape.
    """
    n = len(films)
    rows = np.sort(rng.permutation(n)[: min(n, _LUNG_FILMS)])
    images, _, _ = films.read(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        masks = LungCrop().fit(images[:1]).segment(images)
    masks = masks[masks.any(axis=(1, 2))]
    if len(masks) < _LEAST_MASKS:
        warn(
            f"{films.caller} found lungs in {len(masks)} of {len(rows)} films; outside_lungs "
            "leaves out the middle of the films in their place.",
            FallbackWarning,
        )
        region = np.zeros((_GRID, _GRID), dtype=bool)
        region[2:-3, 2:-2] = True
        return region
    share = Image.fromarray((masks.mean(axis=0) * 255).astype(np.float32))
    share = np.asarray(share.resize((_GRID, _GRID), Image.Resampling.BOX)) / 255
    region = share > _LUNG_SHARE
    for line in region:
        held = np.flatnonzero(line)
        if len(held):
            line[held[0] : held[-1] + 1] = True
    return region


def metadata_table(films, frame, metadata, n_jobs=None):
    """Gather what is known of each film beside its pixels.

    Parameters
    ----------
    films : Films
        The films; those from files tell of the files.

    frame : DataFrame or None
        Table beside the films.

    metadata : list of str
        Columns of it.

    n_jobs : int or None, default=None
        Number of threads that read headers.

    Returns
    -------
    DataFrame or None
        Numbers (float64) and words (object); None where nothing varies.
    """
    table = pd.DataFrame(index=range(len(films)))
    if films.paths is not None:
        table = file_facts(films.paths, levels=False, n_jobs=n_jobs)[_FILE_COLUMNS]
    for name in metadata:
        if frame is not None and name in frame.columns:
            # As numbers or words, whatever mixture they are: an encoder sorts what it gets.
            table[name] = readings_of(frame[name])[0]
    table = table[[c for c in table.columns if table[c].nunique(dropna=False) > 1]]
    return table if len(table.columns) else None
