"""How well maps meet boxes, beside maps that know nothing."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_array

from sklearn_cxr.inspection._activation_resample import axis_weights
from sklearn_cxr.inspection._display_base import generator
from sklearn_cxr.model_selection._groups import encode_groups
from sklearn_cxr.utils._sklearn import Interval, validate_params

_CALLER = "localization_report"
# A box may reach so far over the edge of its image, in pixels: boxes are rounded by their makers.
_OVERHANG = 1.0
_RANDOM_CELLS = 7
_BLOB_SPREAD = 0.25
_CONTROL_SIDE = 256
_RESAMPLES = 2000
CONTROLS = ("random_map", "centred_blob")


@validate_params(
    {
        "maps": ["array-like"],
        "boxes": ["array-like"],
        "rows": ["array-like", None],
        "groups": ["array-like", None],
        "thresholds": ["array-like"],
        "tolerance": [Interval(Real, 0, None, closed="left")],
        "n_random": [Interval(Integral, 1, None, closed="left")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "average": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def localization_report(
    maps,
    boxes,
    *,
    rows=None,
    groups=None,
    thresholds=(0.25, 0.5, 0.75),
    tolerance=0.0,
    n_random=20,
    confidence=0.95,
    average=True,
    random_state=None,
):
    """Measure how well maps meet boxes that people drew, and how well chance would.

    Two maps that know nothing are held against the same boxes: a random one, of 7 x 7 cells
    interpolated as class activation maps are, and a blob in the centre of the film, a Gaussian
    whose deviation is a quarter of each side. Findings lie where lungs are, so the blob is the one
    to beat.

    Parameters
    ----------
    maps : array-like of shape (n, h, w), or sequence of n of shape (h, w)
        Maps in the pixels that the boxes are given in, such as the ``maps`` of
        :func:`class_activation_map`. Values below 0, which speak against the class, count as 0.

    boxes : array-like of shape (n_boxes, 4) or DataFrame
        Boxes as x, y, width and height in pixels; (x, y) is the upper left corner. Of a
        DataFrame the columns ``x``, ``y``, ``w`` and ``h``. A row of NaN is no box.

    rows : array-like of shape (n_boxes,) or None, default=None
        Number of the map that each box belongs to; one map may have several. None means one box
        for each map, in order.

    groups : array-like of shape (n,) or None, default=None
        Patient of each map. The intervals are by patient where they are given, else by map.

    thresholds : array-like of float, default=(0.25, 0.5, 0.75)
        Shares of a map's maximum, in (0, 1], above which its pixels are taken as found.

    tolerance : float, default=0.0
        Pixels around a box within which the pointing game counts a hit.

    n_random : int, default=20
        Random maps for each film.

    confidence : float, default=0.95
        Confidence of the intervals.

    average : bool, default=True
        With False, the figures of each film instead of their means.

    random_state : int, RandomState instance or None, default=None
        Governs random maps and the resampling of patients.

    Returns
    -------
    report : DataFrame
        One row for each figure: ``pointing_game``, whether the maximum of the map lies in a
        box [1]_; ``energy``, the share of the map that lies in boxes [2]_; ``iou@t``, the
        intersection of box and pixels above a threshold over their union; ``box_share``, the share
        of the film that the boxes cover. Columns: ``maps`` with its interval ``low`` to ``high``
        (percentile bootstrap), ``random_map``, ``centred_blob``, ``n_films``, and ``n_empty``, the
        number of films whose map is nowhere above 0, which score 0. Only films with a box count.
        ``attrs["confidence"]`` is the level.
        With ``average=False`` one row for each film (index: its number) and map, and a column for
        each figure.

    Raises
    ------
    ValueError
        If a box lies outside its film or is empty, none is left, or lengths do not fit.

    See Also
    --------
    class_activation_map : Makes the maps.
    LocalizationDisplay : Draws these figures.
    sklearn_cxr.preprocessing.map_boxes : Carries boxes between a film and what a model sees.

    References
    ----------
    .. [1] J. Zhang, Z. Lin, J. Brandt, X. Shen and S. Sclaroff, "Top-down Neural Attention by
       Excitation Backprop", ECCV 2016.
    .. [2] H. Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
       Networks", CVPR workshops, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_cxr.inspection import localization_report
    >>> maps = np.zeros((1, 40, 40))
    >>> maps[0, 10:20, 10:20] = 1
    >>> report = localization_report(maps, [[10, 10, 10, 20]], random_state=0)
    >>> report.loc[["pointing_game", "energy", "iou@0.5"], "maps"].tolist()
    [1.0, 1.0, 0.5]
    """
    maps = [_check_map(number, values) for number, values in enumerate(maps)]
    boxes, rows = check_boxes(boxes, rows, maps, caller=_CALLER)
    if not len(boxes):
        raise ValueError(f"{_CALLER} got no box that is not NaN; there is nothing to measure.")
    thresholds = _check_thresholds(thresholds)
    patients = None
    if groups is not None:
        patients = encode_groups(groups, len(maps), caller=_CALLER)[0]
    rng = generator(random_state)
    names = ["pointing_game", "energy", *(f"iou@{t:g}" for t in thresholds)]
    parts, shares, empty = [], [], []
    films = np.unique(rows)
    for film in films:
        own, size = boxes[rows == film], maps[film].shape
        inside = coverage(own, size)
        near = coverage(_widen(own, tolerance), size)
        found = {"maps": _figures(maps[film], inside, near, thresholds)}
        found |= _controls(own, size, tolerance, thresholds, n_random, rng)
        parts.append(found)
        shares.append(inside.mean())
        empty.append(maps[film].max() <= 0)
    table = pd.concat(
        {
            kind: pd.DataFrame([found[kind] for found in parts], index=films, columns=names)
            for kind in ("maps", *CONTROLS)
        },
        names=["map", "film"],
    ).swaplevel()
    table["box_share"] = np.tile(shares, 3)
    if not average:
        return table.sort_index(level="film", sort_remaining=False)
    by_film = None if patients is None else patients[films]
    return _average(table, by_film, int(np.sum(empty)), confidence, rng)


def _average(table, patients, n_empty, confidence, rng):
    """Bring the figures of the films to their means, those of the maps with an interval."""
    kinds = {kind: table.xs(kind, level="map") for kind in ("maps", *CONTROLS)}
    values = kinds["maps"]
    report = pd.DataFrame({"maps": values.mean()})
    low, high = _interval(values.to_numpy(), patients, confidence, rng)
    report["low"], report["high"] = low, high
    for kind in CONTROLS:
        report[kind] = kinds[kind].mean()
    report["n_films"] = len(values)
    report["n_empty"] = n_empty
    report.attrs["confidence"] = confidence
    return report


def _interval(values, patients, confidence, rng):
    """Percentile interval of means, patients resampled; NaN where there is but one."""
    codes = (
        np.arange(len(values)) if patients is None else np.unique(patients, return_inverse=True)[1]
    )
    n = codes.max() + 1
    if n < 2:
        return np.full((2, values.shape[1]), np.nan)
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, codes, values)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    means = (counts @ sums) / (counts @ np.bincount(codes))[:, None]
    tail = (1 - confidence) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0)


def _check_map(number, values):
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "biuf" or not values.size:
        raise ValueError(
            f"{_CALLER} got maps[{number}] of shape {values.shape} and dtype {values.dtype}; "
            "expected (h, w) of real numbers: one map for each film, as in the maps of "
            "class_activation_map."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{_CALLER} got maps[{number}] with values that are NaN or infinite; expected finite "
            "ones."
        )
    return values


def check_boxes(boxes, rows, maps, *, caller):
    """Find the boxes that are there.

    Parameters
    ----------
    boxes : array-like of shape (n_boxes, 4) or DataFrame
        As `localization_report` takes them.

    rows : array-like of shape (n_boxes,) or None
        As `localization_report` takes them.

    maps : sequence of ndarray of shape (h, w)
        The maps.

    caller : str
        What the user called.

    Returns
    -------
    boxes : ndarray of shape (n, 4)
        Those that are not NaN; there may be none.

    rows : ndarray of shape (n,), dtype int
        Number of the map of each.
    """
    if isinstance(boxes, pd.DataFrame):
        absent = [name for name in "xywh" if name not in boxes]
        if absent:
            raise ValueError(
                f"{caller} got a frame of boxes without the columns {absent}; expected x, y, w "
                "and h."
            )
        boxes = boxes[list("xywh")].to_numpy(dtype=np.float64)
    boxes = check_array(
        boxes, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=0
    )
    if boxes.shape[1] != 4:
        raise ValueError(
            f"{caller} got boxes of shape {boxes.shape}; expected (n, 4): x, y, width, height."
        )
    if rows is None and len(boxes) != len(maps):
        raise ValueError(
            f"{caller} got {len(boxes)} boxes for {len(maps)} maps; expected one box for each, "
            "with NaN where there is none, or rows=, the number of the map of each box."
        )
    rows = np.arange(len(maps)) if rows is None else np.asarray(rows)
    if rows.shape != (len(boxes),) or rows.dtype.kind not in "iu":
        raise ValueError(
            f"{caller} got rows of shape {rows.shape} and dtype {rows.dtype} for {len(boxes)} "
            "boxes; expected the number of a map for each box."
        )
    if len(rows) and not ((rows >= 0) & (rows < len(maps))).all():
        raise ValueError(
            f"{caller} got rows from {rows.min()} to {rows.max()} for {len(maps)} maps; expected "
            f"0 to {len(maps) - 1}."
        )
    there = ~np.isnan(boxes).any(axis=1)
    boxes, rows = boxes[there], rows[there]
    for box, row in zip(boxes, rows, strict=True):
        _check_box(box, row, np.shape(maps[row]), caller)
    return boxes, rows


def _check_box(box, row, size, caller):
    x, y, w, h = box
    text = f"x={x:g}, y={y:g}, w={w:g}, h={h:g}"
    if w <= 0 or h <= 0:
        raise ValueError(
            f"{caller} got the box {text} of map {row}; expected a width and height above 0."
        )
    over = max(-x, -y, x + w - size[1], y + h - size[0])
    if over > _OVERHANG:
        raise ValueError(
            f"{caller} got the box {text} of map {row}, which reaches {over:g} pixels outside of "
            f"its {size[1]} x {size[0]} (width x height) pixels. Boxes and maps have to be in the "
            "same pixels: see map_boxes, and space= of class_activation_map."
        )


def _check_thresholds(thresholds):
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if thresholds.ndim != 1 or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError(
            f"{_CALLER} got thresholds={thresholds.tolist()}; expected shares of a map's maximum, "
            "above 0 and up to 1."
        )
    return thresholds


def coverage(boxes, size):
    """Share of each pixel that lies in any of some boxes.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4)
        x, y, width and height.

    size : tuple of (int, int)
        Height and width of the film.

    Returns
    -------
    ndarray of shape `size`
        Shares, in [0, 1].
    """
    covered = np.zeros(size)
    for x, y, w, h in boxes:
        columns, lines = (
            np.clip(np.minimum(at + 1, end) - np.maximum(at, start), 0, 1)
            for at, start, end in (
                (np.arange(size[1]), x, x + w),
                (np.arange(size[0]), y, y + h),
            )
        )
        np.maximum(covered, lines[:, None] * columns, out=covered)
    return covered


def _widen(boxes, tolerance):
    return boxes + np.array([-tolerance, -tolerance, 2 * tolerance, 2 * tolerance])


def _figures(values, inside, near, thresholds):
    """Pointing game, energy and IoU at each threshold, of one map."""
    values = np.clip(values, 0, None)
    top = values.max()
    if top <= 0:
        return np.zeros(2 + len(thresholds))
    # Where several pixels share the maximum, the share of these that hit.
    pointing = (near[values == top] > 0).mean()
    energy = (values * inside).sum() / values.sum()
    area, overlaps = inside.sum(), []
    for threshold in thresholds:
        found = values >= threshold * top
        common = inside[found].sum()
        overlaps.append(common / (found.sum() + area - common))
    return np.array([pointing, energy, *overlaps])


def _controls(boxes, size, tolerance, thresholds, n_random, rng):
    """Figures of the maps that know nothing."""
    # They are smooth: a coarser grid measures them as well.
    factor = min(1.0, _CONTROL_SIDE / max(size))
    grid = tuple(max(1, round(side * factor)) for side in size)
    scale = np.array([grid[1] / size[1], grid[0] / size[0]] * 2)
    near = coverage(_widen(boxes, tolerance) * scale, grid)
    inside = coverage(boxes * scale, grid)
    drawn = [_figures(_random_map(grid, rng), inside, near, thresholds) for _ in range(n_random)]
    blob = _figures(_blob(grid), inside, near, thresholds)
    return dict(zip(CONTROLS, (np.mean(drawn, axis=0), blob), strict=True))


def _random_map(size, rng):
    cells = rng.uniform(size=(_RANDOM_CELLS, _RANDOM_CELLS))
    lines, columns = (
        axis_weights(_RANDOM_CELLS, side, side / _RANDOM_CELLS, 0.0) for side in size
    )
    return lines @ cells @ columns.T


def _blob(size):
    lines, columns = (
        np.exp(-0.5 * (((np.arange(side) + 0.5) / side - 0.5) / _BLOB_SPREAD) ** 2)
        for side in size
    )
    return lines[:, None] * columns
