"""The anatomy of one made-up patient: what is drawn at random, and the curves that follow from it.

Coordinates are the same at every image size: x runs from -1 (left edge of the film, the
patient's right) to 1, y from 0 (top) to 2 (bottom).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

TABLE_SIZE = 4096
X_MIN, X_MAX = -1.6, 1.6
Y_MIN, Y_MAX = -0.6, 2.6

# Uniform ranges of what distinguishes one patient from the next; one line each, so that a
# patient is one row of random numbers whatever else is drawn.
PATIENT_RANGES = {
    "chest_width": (0.90, 1.06),
    "chest_height": (0.95, 1.06),
    "lung_top": (-0.04, 0.05),
    "body_width": (0.92, 1.10),
    "thickness": (0.85, 1.20),
    "aeration": (0.66, 0.78),
    "heart": (0.86, 1.22),
    "mediastinum": (0.88, 1.18),
    "knob": (0.3, 1.0),
    "right_dome": (1.42, 1.54),
    "dome_step": (0.035, 0.11),
    "dome_curve": (0.16, 0.28),
    "rib_spacing": (0.116, 0.138),
    "rib_phase": (0.0, 1.0),
    "rib_drop": (0.22, 0.34),
    "rib_contrast": (0.8, 1.2),
    "anterior_spacing": (0.135, 0.165),
    "anterior_phase": (0.0, 1.0),
    "anterior_drop": (0.24, 0.36),
    "scoliosis": (-0.03, 0.03),
    "clavicle": (-0.03, 0.04),
    "clavicle_tilt": (-0.03, 0.03),
    "shoulder": (-0.05, 0.06),
    "spine_contrast": (0.7, 1.3),
    "scapula": (-0.03, 0.05),
    "stomach_x": (0.30, 0.46),
    "stomach_size": (0.05, 0.13),
    "stomach_gas": (0.3, 1.0),
    "breast": (0.4, 1.0),
    "breast_y": (1.22, 1.38),
    "vessel_contrast": (0.75, 1.35),
    "grey_point": (0.46, 0.60),
    "grey_slope": (1.7, 2.15),
    "scatter": (0.06, 0.18),
    "fog": (0.0, 6.0),
}

# What changes between two films of one patient: how the patient stood and breathed.
POSE_RANGES = {
    "angle": (-0.022, 0.022),
    "shift_x": (-0.022, 0.022),
    "shift_y": (-0.025, 0.025),
    "scale": (0.985, 1.015),
    "breath": (-0.03, 0.03),
    "turn": (-0.015, 0.015),
    "exposure": (-0.012, 0.012),
}


@dataclass(frozen=True)
class Disease:
    """Where an opacity sits in one patient; unused fields stay at their defaults."""

    name: str
    severity: float
    centre: tuple[float, float] = (0.0, 0.0)
    radii: tuple[float, float] = (0.2, 0.2)
    fissure: float = 0.0
    ragged: np.ndarray | None = None
    mesh: np.ndarray | None = None
    patches: np.ndarray | None = None


@dataclass(frozen=True)
class Patient:
    """One patient: named numbers, rib irregularities, a vessel tree and a disease."""

    values: dict
    age: int
    sex: str
    rib_table: np.ndarray
    anterior_table: np.ndarray
    vessels: list
    mottle: np.ndarray
    disease: Disease


def draw(ranges, rng):
    """Draw one uniform number for every named range."""
    # Plain floats: numpy's own would turn float32 images into float64.
    unit = rng.random(len(ranges)).tolist()
    return {
        name: low + (high - low) * u
        for u, (name, (low, high)) in zip(unit, ranges.items(), strict=True)
    }


def draw_patient(name, severity, rng):
    """Draw a patient whose disease is called `name` and has the given severity."""
    values = draw(PATIENT_RANGES, rng)
    age = int(rng.integers(18, 91))
    sex = "F" if rng.random() < 0.5 else "M"
    # An elongated aorta and a larger heart come with age, in either class alike.
    values["knob"] *= 0.5 + 0.7 * (age - 18) / 72
    values["heart"] *= 0.95 + 0.09 * (age - 18) / 72
    if sex == "M":
        values["breast"] *= 0.15
    return Patient(
        values=values,
        age=age,
        sex=sex,
        rib_table=_rib_table(rng, width=(0.42, 0.56), edge=0.22),
        anterior_table=_rib_table(rng, width=(0.46, 0.60), edge=0.15),
        vessels=[_vessel_tree(side, rng) for side in (-1, 1)],
        mottle=rng.standard_normal((44, 44)).astype(np.float32),
        disease=_draw_disease(name, severity, rng),
    )


# Lobes as (centre x, centre y, radius x, radius y, fissure): +1 keeps what lies above the lower
# edge of the lobe, -1 what lies below its upper edge, 0 has no fissure seen end on.
_LOBES = (
    (-0.42, 0.66, 0.30, 0.24, 1),
    (-0.40, 1.14, 0.26, 0.20, -1),
    (-0.46, 1.30, 0.28, 0.24, 0),
    (0.42, 0.70, 0.28, 0.26, 0),
    (0.48, 1.14, 0.24, 0.24, 0),
    (0.46, 1.32, 0.26, 0.22, 0),
)


def _draw_disease(name, severity, rng):
    # Drawn for every class alike, so that the class does not move later random numbers.
    lobe = _LOBES[rng.integers(len(_LOBES))]
    jitter = rng.uniform(-1, 1, 4).tolist()
    ragged = rng.standard_normal((16, 16)).astype(np.float32)
    mesh = rng.standard_normal((2, 60, 60)).astype(np.float32)
    patches = rng.standard_normal((12, 12)).astype(np.float32)
    size = 0.72 + 0.36 * severity
    return Disease(
        name=name,
        severity=severity,
        centre=(lobe[0] + 0.05 * jitter[0], lobe[1] + 0.06 * jitter[1]),
        radii=(lobe[2] * size * (1 + 0.2 * jitter[2]), lobe[3] * size * (1 + 0.2 * jitter[3])),
        fissure=float(lobe[4]),
        ragged=ragged,
        mesh=mesh,
        patches=patches,
    )


RIB_BINS = 128
RIB_COUNT = 16


def _rib_table(rng, width, edge):
    """Attenuation across the ribs, one period after the other, with bright cortical edges."""
    across = (np.arange(RIB_BINS) + 0.5) / RIB_BINS
    rows = []
    for wide, start, strength in zip(
        rng.uniform(*width, RIB_COUNT),
        rng.uniform(0.12, 0.22, RIB_COUNT),
        rng.uniform(0.85, 1.15, RIB_COUNT),
        strict=True,
    ):
        upper = np.clip((across - start) / 0.08, 0, 1)
        lower = np.clip((start + wide - across) / 0.06, 0, 1)
        rim = np.exp(-(((across - start - 0.07) / 0.05) ** 2))
        rim = rim + 1.3 * np.exp(-(((across - start - wide + 0.05) / 0.04) ** 2))
        rows.append(strength * (0.8 * upper * lower + edge * rim))
    return np.concatenate(rows).astype(np.float32)


def _vessel_tree(side, rng):
    """Branches of one lung from the hilum outwards, a list of generations.

    Each generation is an array of branches with the columns x, y, direction, length, bend and
    radius; direction 0 points to the side wall and pi/2 downwards.
    """
    angles = np.array([-1.25, -0.85, -0.40, 0.10, 0.50, 0.85, 1.15, 1.42])
    n_branches = len(angles)
    gravity = 0.62 + 0.40 * np.clip(angles + 0.6, 0, 1.6)
    branches = np.empty((n_branches, 6))
    branches[:, 0] = side * 0.15
    branches[:, 1] = (0.91 if side < 0 else 0.86) + 0.06 * angles
    branches[:, 2] = angles + rng.uniform(-0.12, 0.12, n_branches)
    branches[:, 3] = rng.uniform(0.17, 0.25, n_branches)
    branches[:, 4] = rng.uniform(-0.35, 0.35, n_branches)
    branches[:, 5] = 0.0175 * gravity * rng.uniform(0.85, 1.15, n_branches)
    tree = [branches]
    for _ in range(3):
        parent = np.repeat(tree[-1], 2, axis=0)
        fork = np.tile([-1.0, 1.0], len(tree[-1]))
        child = np.empty_like(parent)
        child[:, :2] = branch_points(parent, np.ones((1, 1)), side)[:, 0]
        split = rng.uniform(0.18, 0.48, len(parent))
        child[:, 2] = parent[:, 2] + parent[:, 4] + fork * split
        child[:, 3] = parent[:, 3] * rng.uniform(0.62, 0.86, len(parent))
        child[:, 4] = rng.uniform(-0.4, 0.4, len(parent))
        child[:, 5] = parent[:, 5] * rng.uniform(0.55, 0.74, len(parent))
        tree.append(child)
    return tree


def branch_points(branches, along, side):
    """Points (n_branches, n, 2) on curved branches at the shares `along` of their length."""
    # Second order of the arc: exact enough for bends below half a radian.
    direction = branches[:, 2:3] + 0.5 * branches[:, 4:5] * along
    reach = branches[:, 3:4] * along
    x = branches[:, 0:1] + side * reach * np.cos(direction)
    y = branches[:, 1:2] + reach * np.sin(direction)
    return np.stack([x, y], axis=-1)


# Outlines of the standard chest as (where, value) knots; y runs downwards.
_KNOTS = {
    "lung": (
        [0.26, 0.29, 0.34, 0.42, 0.55, 0.75, 1.00, 1.25, 1.50, 1.80],
        [0.27, 0.37, 0.43, 0.505, 0.585, 0.655, 0.70, 0.725, 0.725, 0.70],
    ),
    "cage": (
        [0.10, 0.34, 0.42, 0.55, 0.75, 1.00, 1.25, 1.50, 1.80],
        [0.25, 0.44, 0.515, 0.60, 0.67, 0.715, 0.74, 0.74, 0.72],
    ),
    "right": (
        [0.26, 0.30, 0.36, 0.45, 0.55, 0.70, 0.78, 0.88, 1.00, 1.15, 1.30, 1.42, 1.55],
        [0.27, 0.20, 0.165, 0.14, 0.13, 0.13, 0.135, 0.14, 0.16, 0.195, 0.21, 0.19, 0.14],
    ),
    "left": (
        [0.26, 0.30, 0.36, 0.45, 0.55, 0.70, 0.78, 0.88, 1.00, 1.15, 1.30, 1.42, 1.55],
        [0.27, 0.19, 0.15, 0.125, 0.13, 0.135, 0.155, 0.175, 0.23, 0.315, 0.385, 0.405, 0.37],
    ),
    "body": (
        [0.2, 0.55, 0.70, 0.80, 0.95, 1.30, 1.70, 2.3],
        [1.45, 1.25, 1.06, 0.95, 0.885, 0.87, 0.88, 0.93],
    ),
    "scapula": ([0.40, 0.55, 0.80, 1.00, 1.12], [0.74, 0.70, 0.715, 0.76, 0.83]),
    "shoulder": (
        [0.0, 0.14, 0.20, 0.30, 0.55, 0.80, 1.0, 1.3],
        [-0.5, -0.25, 0.04, 0.15, 0.20, 0.26, 0.38, 0.8],
    ),
    "clavicle": (
        [0.08, 0.18, 0.32, 0.50, 0.68, 0.85],
        [0.475, 0.445, 0.40, 0.345, 0.305, 0.295],
    ),
}
_TABLE_X = np.linspace(X_MIN, X_MAX, TABLE_SIZE)
_TABLE_Y = np.linspace(Y_MIN, Y_MAX, TABLE_SIZE)


@lru_cache(maxsize=1)
def _standard():
    """Tables of the standard outlines, over x for shoulder and clavicle, over y for the rest."""
    tables = {}
    for name, (where, value) in _KNOTS.items():
        at = np.abs(_TABLE_X) if name in ("shoulder", "clavicle") else _TABLE_Y
        tables[name] = PchipInterpolator(where, value)(np.clip(at, where[0], where[-1]))
    return tables


def curves(patient, pose, view):
    """Outline curves of one film as lookup tables over y or x; pairs hold right, then left."""
    v, standard = patient.values, _standard()
    ap = view == "AP"
    # Where on the standard chest every row of this patient's chest is.
    y = 1 + (_TABLE_Y - 1 - v["lung_top"] * (_TABLE_Y < 0.9)) / v["chest_height"]
    row = np.clip((y - Y_MIN) / (Y_MAX - Y_MIN) * (TABLE_SIZE - 1), 0, TABLE_SIZE - 1)
    row = row.astype(np.intp)
    low = np.clip((y - 0.80) / 0.25, 0, 1)
    low = low * low * (3 - 2 * low)
    top = np.clip((y - 0.28) / 0.08, 0, 1)
    # The heart stands away from the detector in AP geometry and is magnified.
    heart = v["heart"] * (1.18 if ap else 1.0)
    vascular = v["mediastinum"] * (1.25 if ap else 1.0)
    factor = 1 + top * ((1 - low) * (vascular - 1) + low * (heart - 1))
    knob = 0.065 * v["knob"] * np.exp(-(((y - 0.63) / 0.075) ** 2))
    turn = pose["turn"] * (0.3 + low)
    lung = v["chest_width"] * standard["lung"][row]
    tables = {
        "lung": np.concatenate([lung, lung * 0.985]),
        "inner": np.concatenate(
            [
                standard["right"][row] * factor - turn,
                (standard["left"][row] + knob) * factor + turn,
            ]
        ),
        "cage": v["chest_width"] * standard["cage"][row],
        "body": v["body_width"] * standard["body"],
        "dome": _dome(v, pose, ap),
        "shoulder": standard["shoulder"] + v["shoulder"],
        "clavicle": standard["clavicle"]
        + (v["clavicle"] - (0.05 if ap else 0.0))
        + v["clavicle_tilt"] * _TABLE_X,
        "scapula": standard["scapula"] * v["chest_width"] + v["scapula"] - (0.17 if ap else 0.0),
    }
    return {name: table.astype(np.float32) for name, table in tables.items()}


def _dome(v, pose, ap):
    """Height of the diaphragm over x, the right dome higher than the left."""
    top = v["right_dome"] + pose["breath"] - (0.10 if ap else 0.0)
    centre = 0.36 * v["chest_width"]
    across = (np.abs(_TABLE_X) - centre) / (0.37 * v["chest_width"])
    # Steeper towards the wall than towards the heart: the costophrenic angle.
    bend = np.where(across > 0, across**2 * (0.6 + 0.4 * across**2), 0.45 * across**2)
    fall = v["dome_curve"] * np.minimum(bend, 2.0)
    return top + v["dome_step"] / (1 + np.exp(-_TABLE_X / 0.05)) + fall
