"""Made-up chest radiographs: the data set that needs no download."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from sklearn.utils import Bunch, check_random_state

from sklearn_cxr.datasets._anatomy import POSE_RANGES, draw, draw_patient
from sklearn_cxr.datasets._phantom_options import (
    CLASSES,
    MARKERS,
    check_class_weight,
    check_classes,
    check_marker,
    check_n_patients,
    check_severity,
    check_view,
)
from sklearn_cxr.datasets._projection import block_mean, render, render_size
from sklearn_cxr.utils._sklearn import Interval, StrOptions, validate_params

DESCR = """\
.. _phantom_chest_xrays:

Phantom chest radiographs
-------------------------

**Data set characteristics**

:Number of images: {n_samples}
:Number of patients: {n_patients}
:Image: {size} x {size} pixels, 8-bit grey, dense tissue bright
:Classes: {classes}

Every image is computed; none shows a person. A film is the sum of the attenuations of a body
outline, two lungs with branching vessels, back and front ribs, clavicles, shoulder blades, spine,
trachea, mediastinum, heart, diaphragm and a gastric bubble, exposed through the characteristic
curve of a film, with scatter and quantum noise.

Anatomy, exposure and class belong to the patient. Two images of one patient differ in posture,
breath, view, marker and noise only, so a split that puts a patient on both sides scores
falsely high.

- *normal*: no opacity, severity 0.
- *bacterial*: a consolidation of one lobe with a soft ragged border, sharp at a fissure, with
  air bronchograms. `frame` holds its bounding box.
- *viral*: a net of fine lines, thickened bronchial walls and a haze around both hila; it has no
  bounding box.

Severity runs from 0 (invisible) to 1; age, sex and, unless confounding is asked for, view and
marker are independent of the class. The figures that a model reaches here say nothing about
real radiographs.

The columns of `frame`: patient, target, label, view ("PA" or "AP"), age (years), sex ("F" or
"M"), severity, marker ("none", "L", "R" or "box"), and the box of the opacity in pixels:
x, y (upper left corner), w, h; NaN where there is none.
"""


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_patients": [Interval(Integral, 1, None, closed="left"), None],
        "image_size": [Interval(Integral, 16, 1024, closed="both")],
        "classes": ["array-like"],
        "class_weight": [dict, "array-like", None],
        "view": [StrOptions({"PA", "AP", "mixed"})],
        "noise": [Interval(Real, 0, 100, closed="both")],
        "severity": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "marker": [StrOptions({"random", *MARKERS}), dict, None],
        "marker_confounding": [Interval(Real, 0, 1, closed="both")],
        "view_confounding": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_chest_xrays(
    n_samples=300,
    *,
    n_patients=None,
    image_size=224,
    classes=CLASSES,
    class_weight=None,
    view="PA",
    noise=3.0,
    severity=(0.1, 1.0),
    marker=None,
    marker_confounding=0.0,
    view_confounding=0.0,
    random_state=None,
    return_X_y=False,
    as_frame=False,
):
    """Make phantom chest radiographs of several patients, with pneumonia in some of them.

    The phantoms are caricatures of frontal films: ribs, clavicles, spine, heart, diaphragm and
    lungs with vessels. Anatomy, exposure and class are fixed per patient, so a patient on both
    sides of a split shows as a falsely high score. The task is learnable, not trivial: part of
    the opacities is nearly invisible.

    Parameters
    ----------
    n_samples : int, default=300
        Number of images, at least 1.
    n_patients : int, default=None
        Number of patients, from 1 to `n_samples`; each has at least one image and the others
        fall at random. None makes two images a patient on average.
    image_size : int, default=224
        Height and width in pixels, from 16 to 1024. The same `random_state` shows the same
        patients at every size.
    classes : array-like of str, default=("normal", "bacterial", "viral")
        The classes to make, a selection of these three names; their order gives the integers in
        `target`.
    class_weight : dict or array-like, default=None
        Shares of the images by class: a mapping from every class to a number, or one number per
        class; only the proportions count. Patients are given to classes whole, so the shares
        are met as closely as that allows. None makes equal shares.
    view : {"PA", "AP", "mixed"}, default="PA"
        Projection. AP films have a larger heart, a wider mediastinum, a higher diaphragm, more
        scatter and the shoulder blades over the lungs. "mixed" draws it for every image, with
        even chances.
    noise : float, default=3.0
        Standard deviation of the quantum noise in grey levels, from 0 to 100, at 224 pixels and
        mid grey. It is scaled by ``image_size / 224``, at most doubled, because a larger pixel
        collects more quanta.
    severity : float or array-like of shape (2,), default=(0.1, 1.0)
        Range in [0, 1] from which the severity of every ill patient is drawn evenly; one number
        fixes it. 0 is invisible, 1 fills the lobe or both lungs.
    marker : {"random", "L", "R", "box"} or dict, default=None
        Bright marker burned into an upper corner: a letter on the side that it names, a
        rectangle in either corner, or one of the three at random. Half of the images carry
        one, depending on `marker_confounding`. A dict gives the probability of a random marker
        for every class. None burns in none.
    marker_confounding : float, default=0.0
        Association of the marker with pneumonia, in [0, 1]: a share of ``(1 + c) / 2`` of the
        ill images and ``(1 - c) / 2`` of the others carry one.
    view_confounding : float, default=0.0
        Association of the AP view with pneumonia, in [0, 1], in the same sense; needs
        ``view="mixed"``.
    random_state : int, RandomState instance or None, default=None
        Source of all randomness; an int makes the same bytes on every call. None takes fresh
        entropy and leaves NumPy's global generator alone.
    return_X_y : bool, default=False
        Return ``(images, target)``, or ``(data, target)`` with `as_frame`, not a Bunch.
    as_frame : bool, default=False
        Add `data`, a DataFrame with the columns age, sex and view, and make `target` a Series.
        There is no file behind a phantom and so no path column; ``images[data.index]`` are the
        images of a part of the rows.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes.

        images : ndarray of shape (n_samples, image_size, image_size), dtype uint8
            The films; dense tissue is bright.
        target : ndarray of shape (n_samples,), dtype int64
            Index into `target_names`; a Series with ``as_frame=True``.
        target_names : list of str
            The classes.
        groups : ndarray of shape (n_samples,), dtype str
            The patient of every image.
        frame : DataFrame of shape (n_samples, 12)
            patient, target, label, view, age, sex, severity, marker, and the bounding box x, y,
            w, h of the opacity in pixels, NaN where there is none.
        data : DataFrame of shape (n_samples, 3)
            Only with ``as_frame=True``: age, sex and view.
        DESCR : str
            The description of the data set.

    (X, y) : tuple if ``return_X_y=True``
        The images (or `data`) and the target.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or two of them contradict each other.

    Notes
    -----
    Ill means every class but "normal"; without that class, every class but the first.

    Examples
    --------
    >>> from sklearn_cxr.datasets import make_chest_xrays
    >>> films = make_chest_xrays(n_samples=6, n_patients=3, image_size=32, random_state=0)
    >>> films.images.shape, films.images.dtype
    ((6, 32, 32), dtype('uint8'))
    >>> films.target_names
    ['normal', 'bacterial', 'viral']
    >>> sorted(set(films.groups.tolist()))
    ['phantom00000', 'phantom00001', 'phantom00002']
    """
    names = check_classes(classes)
    shares = check_class_weight(class_weight, names)
    severity = check_severity(severity)
    n_patients = check_n_patients(n_patients, n_samples)
    marker_rate = check_marker(marker, marker_confounding, names)
    view_rate = check_view(view, view_confounding, names)

    # scikit-learn's None means NumPy's global generator, which nothing here touches.
    source = np.random.RandomState() if random_state is None else random_state
    seeds = check_random_state(source).randint(0, 2**31 - 1, size=4).tolist()
    rng = _generator(seeds, 0, 0)
    groups, patient_class = _share_out(n_samples, n_patients, shares, rng)
    target = patient_class[groups]
    patient_severity = rng.uniform(*severity, n_patients)
    patient_severity[np.array(names)[patient_class] == "normal"] = 0.0
    views = np.where(rng.random(n_samples) < view_rate[target], "AP", "PA")
    markers = _draw_markers(marker, marker_rate[target], rng)
    people = [
        draw_patient(names[patient_class[i]], float(patient_severity[i]), _generator(seeds, 1, i))
        for i in range(n_patients)
    ]
    images, boxes = _render_all(people, groups, views, markers, image_size, noise, seeds)
    frame = pd.DataFrame(
        {
            "patient": _text(f"phantom{i:05d}" for i in groups),
            "target": target,
            "label": _text(names[i] for i in target),
            "view": _text(views),
            "age": np.array([person.age for person in people])[groups],
            "sex": _text(people[i].sex for i in groups),
            "severity": patient_severity[groups],
            "marker": _text(markers),
        }
    )
    frame[["x", "y", "w", "h"]] = boxes
    return _bundle(images, frame, names, n_patients, return_X_y, as_frame)


def _text(values):
    # An explicit dtype, because pandas 3 would turn text into its string type and pandas 2 not.
    return pd.Series([str(value) for value in values], dtype=object)


def _bundle(images, frame, names, n_patients, return_X_y, as_frame):
    target = frame["target"] if as_frame else frame["target"].to_numpy(copy=True)
    data = {"data": frame[["age", "sex", "view"]].copy()} if as_frame else {}
    if return_X_y:
        return data.get("data", images), target
    return Bunch(
        **data,
        images=images,
        target=target,
        target_names=names,
        groups=frame["patient"].to_numpy().astype(str),
        frame=frame,
        DESCR=DESCR.format(
            n_samples=len(images),
            n_patients=n_patients,
            size=images.shape[1],
            classes=", ".join(names),
        ),
    )


def _generator(seeds, *key):
    return np.random.default_rng(np.random.SeedSequence(seeds, spawn_key=key))


def _share_out(n_samples, n_patients, shares, rng):
    """Give images to patients and patients to classes; patient of each image, class of each."""
    extra = rng.integers(n_patients, size=n_samples - n_patients)
    groups = rng.permutation(np.concatenate([np.arange(n_patients), extra])).astype(np.int64)
    counts = np.bincount(groups, minlength=n_patients)
    missing = shares * n_samples
    patient_class = np.empty(n_patients, dtype=np.int64)
    # Patients with many images first, each to the class that lacks most.
    for patient in np.argsort(-counts, kind="stable"):
        chosen = int(np.argmax(missing))
        patient_class[patient] = chosen
        missing[chosen] -= counts[patient]
    return groups, patient_class


def _draw_markers(marker, rate, rng):
    carries = rng.random(len(rate)) < rate
    kind = rng.choice(MARKERS, size=len(rate))
    if isinstance(marker, str) and marker != "random":
        kind = np.full(len(rate), marker)
    return np.where(carries, kind, "none")


def _render_all(people, groups, views, markers, image_size, noise, seeds):
    """Images, and the boxes in pixels."""
    images = np.empty((len(groups), image_size, image_size), dtype=np.uint8)
    boxes = np.full((len(groups), 4), np.nan)
    size = render_size(image_size)
    for row, (number, view, marker) in enumerate(zip(groups, views, markers, strict=True)):
        # Noise is drawn last: whatever comes before does not depend on the image size.
        rng = _generator(seeds, 2, row)
        pose = draw(POSE_RANGES, rng)
        marker_at = rng.random(3)
        film, box = render(people[number], pose, view, size)
        film = block_mean(film, image_size)
        _add_noise(film, noise, rng)
        _burn_in(film, marker, marker_at)
        images[row] = np.clip(film + np.float32(0.5), 0, 255)
        if box is not None:
            boxes[row] = box * image_size
    return images, boxes


def _add_noise(film, noise, rng):
    if noise:
        scale = np.float32(noise * min(film.shape[0] / 224, 2.0))
        grain = rng.standard_normal(film.shape, dtype=np.float32)
        # Bright is where few quanta arrived: relatively more noise.
        film += grain * (scale * (np.float32(0.6) + film * np.float32(0.8 / 255)))


_STROKES = {
    "L": [(0.0, 0.0, 0.2, 1.0), (0.0, 0.82, 0.7, 1.0)],
    "R": [
        (0.0, 0.0, 0.2, 1.0),
        (0.0, 0.0, 0.6, 0.16),
        (0.0, 0.42, 0.6, 0.58),
        (0.52, 0.1, 0.7, 0.5),
    ],
    "box": [(0.0, 0.3, 1.4, 1.0)],
}


def _burn_in(film, kind, at):
    """Draw a marker of about a thirteenth of the image into an upper corner."""
    if kind == "none":
        return
    size, fine = film.shape[0], 4
    height = size * fine * (0.065 + 0.02 * at[0])
    on_left = {"R": True, "L": False}.get(kind, at[2] < 0.5)
    x0 = size * fine * (0.04 + 0.03 * at[1])
    if not on_left:
        x0 = size * fine - x0 - height * (1.4 if kind == "box" else 0.7)
    y0 = size * fine * (0.05 + 0.05 * at[2])
    rows = int(np.ceil((y0 + height) / fine)) + 1
    canvas = Image.new("L", (size * fine, rows * fine))
    pen = ImageDraw.Draw(canvas)
    for left, top, right, bottom in _STROKES[kind]:
        corners = [
            x0 + left * height,
            y0 + top * height,
            x0 + right * height,
            y0 + bottom * height,
        ]
        pen.rectangle([round(c) for c in corners], fill=255)
    if kind == "R":
        leg = [(0.22, 0.58), (0.42, 0.58), (0.72, 1.0), (0.5, 1.0)]
        pen.polygon([(x0 + x * height, y0 + y * height) for x, y in leg], fill=255)
    cover = np.asarray(canvas.reduce(fine), dtype=np.float32) / 255
    rows = min(rows, size)
    film[:rows] += cover[:rows] * (250 - film[:rows])
