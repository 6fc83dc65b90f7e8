"""Classical segmentation of the two lung fields in a frontal chest radiograph.

The film is cut at many grey levels, global and local ones; each cut leaves dark regions left
and right of the spine. The pair of regions that looks most like two lungs wins.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.filters import gaussian
from skimage.measure import label, regionprops
from skimage.morphology import disk

from sklearn_cxr.preprocessing._resize import resample

WORK_SIDE = 128  # longer side in pixels at which the film is segmented
MIN_SIDE = 24  # a film with fewer pixels across shows no lungs
MIN_CONTRAST = 0.02  # share of the level range; a flatter image is no film
MIN_SCORE = 4.7  # of a pair of fields; from looking at 100 films of children and 106 of adults

_SMOOTHING = 1.5  # sigma in working pixels: ribs and vessels go, the outline stays
_SURROUND = 0.16 * WORK_SIDE  # sigma of the neighbourhood of a local grey level
_GLOBAL_QUANTILES = np.linspace(0.15, 0.7, 10)
_LOCAL_LEVELS = (-1.0, -0.75, -0.5, -0.3, -0.1, 0.1)
_OPENING = disk(2)
_MAX_CONTRAST = 3.0  # of an outline, in mean gradients; a frame or marker has more than a lung
_PARTED = 0.2  # what a field in two parts scores less than one in a piece
_MAX_GAP = 0.22  # of the width, from the spine to the near side of a lung; an arm is farther
_MAX_PART_GAP = 0.3  # the same for each part of a lung in two parts
_EDGE_BAND = 3  # working pixels from the image's edge that count as touching it
_MAX_TOUCH = 0.08  # share of an edge that a lung may touch, the air around touches more


@dataclass
class _Field:
    """One candidate for a lung; lengths are shares of the film's height and width."""

    window: tuple  # slices into the film
    mask: np.ndarray  # within the window
    area: float
    top: float
    bottom: float
    left: float
    right: float
    row: float
    column: float
    score: float


def reduce_film(image, low, high):
    """Bring a film to the working resolution and to [0, 1].

    Parameters
    ----------
    image : ndarray of shape (h, w)
        Grey levels.

    low, high : float
        Levels of black and white.

    Returns
    -------
    ndarray of shape (h', w') or None
        Floats; the longer side has `WORK_SIDE` pixels. None where the film is too small.
    """
    if min(image.shape) < MIN_SIDE:
        return None
    scale = WORK_SIDE / max(image.shape)
    shape = tuple(max(MIN_SIDE // 2, round(side * scale)) for side in image.shape)
    return ((resample(image, shape) - low) / (high - low)).astype(np.float32, copy=False)


def find_fields(films):
    """Find the lung fields of reduced films.

    Parameters
    ----------
    films : list of ndarray of shape (h', w') or None
        Films as :func:`reduce_film` gives them.

    Returns
    -------
    list of ndarray of shape (h', w'), dtype bool, or None
        True in the lungs; None where there is no film or no plausible pair of lungs in it.
    """
    return [None if film is None else _find_pair(film) for film in films]


def _find_pair(film):
    shape = film.shape
    smooth = gaussian(film, _SMOOTHING, preserve_range=True)
    black, white = np.percentile(smooth, [1, 99])
    if white - black < MIN_CONTRAST:
        return None
    smooth = np.clip((smooth - black) / (white - black), 0, 1)
    surround = gaussian(smooth, _SURROUND, preserve_range=True)
    spread = gaussian(smooth**2, _SURROUND, preserve_range=True) - surround**2
    local = (smooth - surround) / (np.sqrt(np.maximum(spread, 1e-4)) + 0.05)
    edges = ndimage.gaussian_gradient_magnitude(film, _SMOOTHING)
    edges /= edges.mean()
    spine = _spine_column(smooth)
    core = smooth[_span(0.1, 0.8, shape[0]), _span(0.1, 0.9, shape[1])]
    fields = ([], [])
    levels = np.quantile(core, _GLOBAL_QUANTILES)
    for plane, cuts in ((smooth, levels), (local, _LOCAL_LEVELS)):
        for cut in cuts:
            for side, found in enumerate(_fields_below(plane < cut, spine, edges)):
                fields[side].extend(found)
    pair = _best_pair(*fields, spine / shape[1])
    if pair is None:
        return None
    mask = np.zeros(shape, dtype=bool)
    for field in pair:
        mask[field.window] |= field.mask
    return mask


def _span(start, stop, length):
    return slice(int(start * length), int(stop * length) + 1)


def _spine_column(smooth):
    # The brightest column near the middle; far from the centre it has to be the brighter for it.
    h, w = smooth.shape
    profile = ndimage.gaussian_filter1d(smooth[_span(0.2, 0.75, h)].mean(axis=0), 0.05 * w)
    columns = np.arange(w)[_span(0.33, 0.67, w)]
    penalty = 0.25 * profile.std() * ((columns - w / 2) / (0.17 * w)) ** 2
    return int(columns[np.argmax(profile[columns] - penalty)])


def _open(mask):
    # An opening that does not eat away what lies at the image's edge, as ndimage's own would.
    return ndimage.binary_dilation(
        ndimage.binary_erosion(mask, _OPENING, border_value=1), _OPENING
    )


def _fields_below(dark, spine, edges):
    # Candidates left and right of the spine in one cut: regions alone, and the two largest of a
    # side together, since a rib or a consolidation often parts a lung in two.
    h, w = dark.shape
    dark = _open(dark)
    dark[:, spine - 1 : spine + 2] = False
    labels = label(dark, connectivity=1)
    sides = ([], [])
    for region in regionprops(labels):
        if not 0.008 < region.area / (h * w) < 0.3 or _touches_edge(region, h, w):
            continue
        row, column = region.centroid
        near = _gap(region.bbox[1], region.bbox[3], column, spine) < _MAX_PART_GAP * w
        if near and 0.12 < row / h < 0.8 and abs(column - spine) > 0.06 * w:
            sides[int(column > spine)].append(region)
    for regions in sides:
        regions.sort(key=lambda region: -region.area)
        groups = [[region] for region in regions[:3]]
        groups += [regions[:2]] if len(regions) > 1 else []
        fields = (_field(labels, group, spine, edges) for group in groups)
        yield [field for field in fields if field is not None]


def _gap(left, right, column, spine):
    # Distance from the spine to the near side of what lies around `column`.
    return left - spine if column > spine else spine - right


def _touches_edge(region, h, w):
    # Whether a region runs along the image's edge, as the air around the patient does.
    top, left, bottom, right = region.bbox
    mask = region.image
    ends = (
        (mask[: max(_EDGE_BAND - top, 0)], 0, w),
        (mask[mask.shape[0] - max(_EDGE_BAND - (h - bottom), 0) :], 0, w),
        (mask[:, : max(_EDGE_BAND - left, 0)], 1, h),
        (mask[:, mask.shape[1] - max(_EDGE_BAND - (w - right), 0) :], 1, h),
    )
    return any(end.any(axis=axis).sum() > _MAX_TOUCH * side for end, axis, side in ends)


def _field(labels, group, spine, edges):
    # The candidate that a group of regions makes, or None where it cannot be a lung.
    h, w = labels.shape
    boxes = np.array([region.bbox for region in group])
    (top, left), (bottom, right) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    area = sum(region.area for region in group) / (h * w)
    if area < 0.02 or bottom - top < 0.22 * h or not 0.09 <= (right - left) / w <= 0.55:
        return None
    window = (slice(top, bottom), slice(left, right))
    mask = np.isin(labels[window], [region.label for region in group])
    mask = ndimage.binary_fill_holes(mask)
    rows, columns = np.nonzero(mask)
    row, column = (rows.mean() + top) / h, (columns.mean() + left) / w
    if not 0.2 < row < 0.72 or abs(column - spine / w) < 0.07:
        return None
    if _gap(left, right, column * w, spine) > _MAX_GAP * w:
        return None
    outline = mask & ~ndimage.binary_erosion(mask)
    contrast = min(float(edges[window][outline].mean()), _MAX_CONTRAST)
    solidity = mask.sum() / _hull_area(outline)
    score = 2 * min(1, area / 0.12) + 1.5 * solidity + contrast - abs(row - 0.45)
    score -= _PARTED * (len(group) - 1)
    return _Field(window, mask, area, top / h, bottom / h, left / w, right / w, row, column, score)


def _hull_area(outline):
    points = np.argwhere(outline)
    corners = [points + corner for corner in product((0, 1), repeat=2)]
    return ConvexHull(np.concatenate(corners)).volume


def _best_pair(lefts, rights, spine):
    # Two lungs resemble each other in height, area and distance from the spine.
    best, best_score = None, MIN_SCORE
    for one, other in product(lefts, rights):
        height = max(one.bottom, other.bottom) - min(one.top, other.top)
        if height < 0.35 or other.right - one.left < 0.42:
            continue
        score = (
            one.score
            + other.score
            - 2 * abs(one.row - other.row)
            - 0.5 * abs(np.log(one.area / other.area))
            - 2 * abs((spine - one.column) - (other.column - spine))
            - abs(one.top - other.top)
            - 0.5 * abs(one.bottom - other.bottom)
        )
        if score > best_score:
            best, best_score = (one, other), score
    return best
