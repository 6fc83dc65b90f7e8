"""The film of one made-up patient: attenuations added up, then exposed."""

from functools import lru_cache

import numpy as np
from PIL import Image

from sklearn_cxr.datasets._anatomy import (
    RIB_BINS,
    TABLE_SIZE,
    X_MAX,
    X_MIN,
    Y_MAX,
    Y_MIN,
    branch_points,
    curves,
)

MIN_RENDER_SIZE = 112


def render_size(image_size):
    """Size at which a film is drawn: small images are drawn larger and averaged."""
    return image_size * -(-MIN_RENDER_SIZE // image_size)


def block_mean(image, image_size):
    """Average square blocks down to `image_size`."""
    k = image.shape[0] // image_size
    if k == 1:
        return image
    return image.reshape(image_size, k, image_size, k).mean(axis=(1, 3), dtype=np.float32)


@lru_cache(maxsize=4)
def _pixel_axis(size):
    at = ((np.arange(size) + 0.5) * (2.0 / size)).astype(np.float32)
    at.flags.writeable = False
    return at


def _step(distance, width):
    """Smooth 0-to-1 edge, one half at distance 0."""
    t = distance * np.float32(0.5 / width)
    t += np.float32(0.5)
    np.clip(t, 0, 1, out=t)
    return t * t * (3 - 2 * t)


def _blob(x, y, cx, cy, rx, ry):
    """Ellipse level: 1 in the centre, 0 on the rim, negative outside."""
    u = (x - np.float32(cx)) * np.float32(1 / rx)
    w = (y - np.float32(cy)) * np.float32(1 / ry)
    return 1 - u * u - w * w


class Film:
    """Pixel coordinates of one film in the patient's own frame, and lookups on them."""

    def __init__(self, pose, size):
        self.size = size
        self.pose = pose
        axis = _pixel_axis(size)
        cos = np.cos(pose["angle"]) / pose["scale"]
        sin = np.sin(pose["angle"]) / pose["scale"]
        u = axis - np.float32(1 + pose["shift_x"])
        w = axis - np.float32(1 + pose["shift_y"])
        self.x = (np.float32(cos) * u)[None, :] + (np.float32(sin) * w)[:, None]
        self.y = (np.float32(cos) * w)[:, None] - (np.float32(sin) * u)[None, :]
        self.y += 1
        self.x_line = np.float32(cos) * u
        self.y_line = np.float32(cos) * w + 1
        self.abs_x = np.abs(self.x)
        self.left = self.x > 0
        self._rows = self._index(self.y, Y_MIN, Y_MAX)
        self._columns = self._index(self.x, X_MIN, X_MAX)

    @staticmethod
    def _index(values, low, high):
        scaled = (values - np.float32(low)) * np.float32((TABLE_SIZE - 1) / (high - low))
        return np.clip(scaled, 0, TABLE_SIZE - 1).astype(np.int32)

    def over_y(self, table):
        """Look a table over y up at every pixel; a double table holds both sides."""
        if len(table) == TABLE_SIZE:
            return table.take(self._rows)
        return table.take(self._rows + np.int32(TABLE_SIZE) * self.left)

    def over_x(self, table):
        """Look a table over x up at every pixel."""
        return table.take(self._columns)

    def to_pixels(self, x, y):
        """Pixel coordinates of points in the patient's frame."""
        p = self.pose
        cos, sin = np.cos(p["angle"]) * p["scale"], np.sin(p["angle"]) * p["scale"]
        u = cos * x - sin * (y - 1) + 1 + p["shift_x"]
        w = sin * x + cos * (y - 1) + 1 + p["shift_y"]
        return u * (self.size / 2) - 0.5, w * (self.size / 2) - 0.5

    def field(self, coefficients):
        """Smooth random field: cubic B-spline over a grid that covers the frame."""
        rows, row_weights = _spline(self.y_line * 0.5, len(coefficients))
        columns, column_weights = _spline(self.x_line * 0.5 + 0.5, len(coefficients))
        part = sum(row_weights[:, k, None] * coefficients[rows[:, k]] for k in range(4))
        return sum(column_weights[None, :, k] * part[:, columns[:, k]] for k in range(4))

    def splat(self, x, y, mass):
        """Add point masses to an image, each shared by the four pixels around it."""
        px, py = self.to_pixels(x, y)
        column, row = np.floor(px).astype(np.int64), np.floor(py).astype(np.int64)
        inside = (column >= 0) & (row >= 0) & (column < self.size - 1) & (row < self.size - 1)
        column, row, mass = column[inside], row[inside], mass[inside]
        fx, fy = px[inside] - column, py[inside] - row
        at = row * self.size + column
        index = np.concatenate([at, at + 1, at + self.size, at + self.size + 1])
        weights = [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]
        total = np.bincount(
            index, np.concatenate([w * mass for w in weights]), minlength=self.size**2
        )
        area = (2.0 / self.size) ** 2
        return (total / area).astype(np.float32).reshape(self.size, self.size)


def _spline(at, n):
    position = np.clip(at, 0, 1) * (n - 4) + 1
    base = np.floor(position).astype(np.int32)
    t = (position - base).astype(np.float32)
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    index = np.clip(base[:, None] + np.arange(-1, 3), 0, n - 1)
    return index, weights / np.float32(6)


def render(patient, pose, view, size):
    """Grey levels (float32, 0 to 255, without noise) of one film, and the opacity's box."""
    film = Film(pose, size)
    # Whatever has no fine edges is drawn at half the resolution.
    coarse = Film(pose, (size + 1) // 2)
    lines = curves(patient, pose, view)
    v = patient.values
    body, solid = _smooth_parts(coarse, lines, v, view)
    body, solid = _enlarge(body, size), _enlarge(solid, size)
    lung = _lung(film, lines, v)
    air = body * lung * np.float32(v["aeration"])
    vessels, walls = _vessels(film, patient)
    opacity, box = _disease(film, coarse, patient, lung, vessels, walls)
    density = body + solid - air * (1 - 0.95 * opacity)
    density += body * np.float32(2) * _ribs(film, lines, patient, view)
    vessels *= np.float32(v["vessel_contrast"])
    density += lung * (vessels * (1 - opacity) + 0.010 * film.field(patient.mottle))
    return _expose(density, patient, pose, view), box


def _enlarge(coarse, size):
    image = Image.fromarray(coarse)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _smooth_parts(film, lines, v, view):
    """Thickness of the body, and what is denser or thinner inside it."""
    half = film.over_y(lines["body"])
    ratio = film.abs_x / half
    depth = np.sqrt(np.clip(1 - ratio * ratio, 0, 1))
    outline = _step(half - film.abs_x, 0.02) * _step(film.y - film.over_x(lines["shoulder"]), 0.05)
    body = outline * (0.08 + np.float32(0.48 * v["thickness"]) * depth)
    shadow = _blob(film.abs_x, film.y, 0.42 * v["chest_width"], v["breast_y"] - 0.16, 0.34, 0.26)
    body += np.float32(v["breast"] * 0.14) * np.sqrt(np.clip(shadow, 0, 1)) * outline
    solid = _mediastinum(film, lines, v, view) + _abdomen(film, lines, v)
    solid += _spine(film, v) + _girdle(film, lines, view)
    return body, solid * outline


def _lung(film, lines, v):
    """Share of air over the film, 1 where the lung is deepest."""
    wall = film.over_y(lines["lung"]) - film.abs_x
    inner = film.abs_x - film.over_y(lines["inner"])
    below = film.over_x(lines["dome"]) - film.y
    lateral = 0.55 * _step(wall, 0.012) + 0.45 * _step(wall - 0.05, 0.10)
    medial = 0.88 * _step(inner, 0.016) + 0.12 * _step(inner + 0.10, 0.06)
    bottom = 0.90 * _step(below, 0.014) + 0.10 * _step(below + 0.09, 0.05)
    apex = _step(film.y - np.float32(0.30 + v["lung_top"]), 0.16)
    return lateral * medial * bottom * (0.45 + 0.55 * apex)


def _mediastinum(film, lines, v, view):
    inner = film.over_y(lines["inner"])
    depth = np.clip(1 - (film.abs_x / inner) ** 2, 0, 1)
    chest = _step(film.y - 0.35, 0.15) * _step(film.over_x(lines["dome"]) + 0.1 - film.y, 0.2)
    density = 0.24 * np.sqrt(depth) * chest
    heart = 1.2 if view == "AP" else 1.0
    body = _blob(film.x, film.y, 0.10, 1.22, 0.30 * v["heart"] * heart, 0.32)
    density += 0.13 * np.sqrt(np.clip(body, 0, 1))
    for side, y in ((-1, 0.93), (1, 0.87)):
        hilum = _blob(film.x, film.y, side * 0.165, y, 0.075, 0.13)
        density += 0.085 * np.clip(hilum, 0, 1)
    # Trachea, then the two main bronchi below the carina.
    trachea = _step(0.040 - np.abs(film.x + 0.012), 0.016)
    trachea *= _step(film.y - 0.05, 0.1) * _step(0.70 - film.y, 0.05)
    reach = film.abs_x - (film.y - 0.68) * np.float32(1.1)
    bronchi = _step(0.030 - np.abs(reach), 0.02)
    bronchi *= _step(film.y - 0.69, 0.04) * _step(0.84 - film.y, 0.08)
    return density - 0.15 * trachea - 0.08 * bronchi


def _abdomen(film, lines, v):
    below = film.y - film.over_x(lines["dome"])
    inside = _step(below, 0.02)
    # The abdomen bulges between the ribs, not into the chest wall.
    inside *= _step(film.over_y(lines["cage"]) + 0.02 - film.abs_x, 0.16)
    density = inside * (0.20 + 0.10 * _step(0.25 - film.x, 0.4))
    size = v["stomach_size"]
    level = film.over_x(lines["dome"])
    cx = v["stomach_x"]
    top = _blob(film.x, film.y - level, cx, 0.05 + size * 0.8, size * 1.4, size * 0.8)
    gas = _step(top - 0.15, 0.9) * np.float32(v["stomach_gas"])
    # Gas rises: the bubble ends in a level below.
    return density - 0.30 * gas * inside


def _ribs(film, lines, patient, view):
    """Back ribs as upper arcs and front ribs as lower arcs of hoops that tilt forwards."""
    v = patient.values
    cage = film.over_y(lines["cage"])
    ratio = np.minimum(film.abs_x / cage * np.float32(0.95), 1)
    ratio *= ratio
    arc = cage * np.sqrt(1 - ratio)
    tilted = film.y + np.float32(v["scoliosis"]) * film.x
    drop = np.float32(v["rib_drop"] / 0.69 * (0.8 if view == "AP" else 1.0))
    phase = (tilted + drop * arc) * np.float32(1 / v["rib_spacing"]) + np.float32(v["rib_phase"])
    ribs = _rib_values(phase, patient.rib_table) * (0.75 + 0.6 * ratio * ratio * ratio)
    ribs *= np.float32(0.115) * _step(film.abs_x - 0.05, 0.06)
    fall = np.float32(v["anterior_drop"] / 0.69)
    phase = (tilted - fall * arc) * np.float32(1 / v["anterior_spacing"])
    phase += np.float32(v["anterior_phase"] + 4)
    front = _rib_values(phase, patient.anterior_table)
    front *= np.float32(0.055) * _step(film.abs_x - 0.27 - 0.12 * film.y, 0.16)
    ribs += front
    ribs *= _step(cage - film.abs_x, 0.02)
    level = _pixel_axis(film.size)[:, None]
    return ribs * (
        np.float32(v["rib_contrast"]) * _step(level - 0.22, 0.06) * _step(1.75 - level, 0.5)
    )


def _rib_values(phase, table):
    index = (phase * np.float32(RIB_BINS)).astype(np.int32)
    return table.take(index, mode="clip")


def _spine(film, v):
    bow = np.float32(v["scoliosis"] * 0.8) * np.sin(film.y * np.float32(2.2))
    off = np.abs(film.x - bow)
    pitch = 0.105 + 0.03 * film.y
    phase = film.y / pitch
    phase = np.abs(phase - np.round(phase))
    vertebra = 0.55 + 0.45 * _step(0.36 - phase, 0.12)
    column = _step(0.085 + 0.012 * film.y - off, 0.018) * vertebra
    pedicle = np.exp(-(((off - 0.05) / 0.014) ** 2) - (phase / 0.17) ** 2)
    process = np.exp(-((off / 0.012) ** 2) - ((0.5 - phase) / 0.22) ** 2)
    edge = np.exp(-(((off - 0.082 - 0.012 * film.y) / 0.010) ** 2)) * vertebra
    spine = 0.17 * column + 0.08 * pedicle + 0.08 * process + 0.06 * edge
    return np.float32(v["spine_contrast"]) * spine


def _girdle(film, lines, view):
    """Clavicles, shoulder blades and the heads of the arm bones."""
    half = 0.024 + 0.012 * np.exp(-(((film.abs_x - 0.12) / 0.06) ** 2))
    across = np.abs(film.y - film.over_x(lines["clavicle"])) / half
    ends = _step(film.abs_x - 0.085, 0.03) * _step(0.84 - film.abs_x, 0.04)
    band = _step(1 - across, 0.35) * (0.65 + 0.35 * across * across)
    density = 0.15 * band * ends
    border = film.over_y(lines["scapula"])
    plate = film.abs_x - border
    span = _step(film.y - 0.42, 0.1) * _step(1.10 - film.y, 0.12)
    blade = (0.09 if view == "AP" else 0.05) * _step(plate, 0.016) * _step(0.97 - film.abs_x, 0.1)
    rim = 0.07 * np.exp(-((plate / 0.012) ** 2))
    density += (blade + rim) * span
    head = _step(_blob(film.abs_x, film.y, 0.95, 0.42, 0.105, 0.115), 0.35)
    shaft = _step(0.055 - np.abs(film.abs_x - 0.99 - 0.1 * (film.y - 0.45)), 0.02)
    shaft *= _step(film.y - 0.48, 0.05)
    return density + 0.17 * np.maximum(head, shaft)


def _vessels(film, patient):
    """Vessels and thickened bronchial walls, as attenuation in a lung full of air."""
    fine = max(film.size / 224, 0.5)
    parts, cuffs = [], []
    for side, tree in zip((-1, 1), patient.vessels, strict=True):
        for generation, branches in enumerate(tree):
            n_along = int(np.ceil((26, 20, 16, 12)[generation] * fine))
            n_across = int(np.ceil((6, 4, 2, 1)[generation] * fine))
            along = (np.arange(n_along) + 0.5)[None, :] / n_along
            across = (np.arange(n_across) + 0.5) * (2 / n_across) - 1
            parts.append(_tube(branches, along, across, side, chord=True))
            if generation in (1, 2) and patient.disease.name == "viral":
                cuffs.append(_tube(branches, along, across, side, chord=False))
    vessels = film.splat(*(np.concatenate(p) for p in zip(*parts, strict=True))) * 7
    if not cuffs:
        return vessels, None
    return vessels, film.splat(*(np.concatenate(p) for p in zip(*cuffs, strict=True)))


def _tube(branches, along, across, side, chord):
    """Sample tapering branches over their length and width: x, y and mass of every sample."""
    points = branch_points(branches, along, side)
    taper = branches[:, 5:6] * (1 - 0.3 * along)
    direction = branches[:, 2:3] + branches[:, 4:5] * along
    # A wall lies outside the lumen, a vessel fills it.
    offset = taper[..., None] * (across if chord else np.sign(across) + across)
    x = points[..., 0:1] - side * np.sin(direction)[..., None] * offset
    y = points[..., 1:2] + np.cos(direction)[..., None] * offset
    step = branches[:, 3:4, None] / along.size
    if chord:
        profile = np.sqrt(1 - across**2)
        mass = step * (2 * taper[..., None] / len(across)) * taper[..., None] * profile
    else:
        mass = step * (2 * taper[..., None] / len(across))
    return x.ravel(), y.ravel(), np.broadcast_to(mass, x.shape).ravel()


def _disease(film, coarse, patient, lung, vessels, walls):
    """Share of the air that is replaced, and the box of a circumscribed opacity."""
    if patient.disease.name == "bacterial":
        mask = _consolidation(coarse, patient.disease)
        mask = _enlarge(mask, film.size)
        bronchi = np.minimum(vessels * 4, 1)
        strength = np.float32(patient.disease.severity**0.8)
        return strength * mask * (1 - 0.35 * bronchi), _box(mask * lung, film.size)
    if patient.disease.name == "viral":
        return _interstitial(film, coarse, patient.disease, walls), None
    return np.float32(0), None


def _consolidation(film, disease):
    level = _blob(film.x, film.y, *disease.centre, *disease.radii)
    level = level + 0.7 * film.field(disease.ragged)
    mask = _step(level, 0.7)
    # A lobe ends sharply at its fissure, softly elsewhere.
    edge = disease.centre[1] + disease.fissure * 0.55 * disease.radii[1]
    if disease.fissure:
        tilt = edge + 0.10 * (film.abs_x - 0.4)
        mask *= _step((tilt - film.y) * np.float32(disease.fissure), 0.03)
    return mask * (film.left if disease.centre[0] > 0 else ~film.left)


def _box(mask, size):
    seen = mask > 0.35 * mask.max() if mask.max() > 0.05 else np.zeros_like(mask, bool)
    if not seen.any():
        return None
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    x0, x1, y0, y1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    return np.array([x0, y0, x1 - x0, y1 - y0]) / size


def _interstitial(film, coarse, disease, walls):
    near = np.exp(-(((coarse.abs_x - 0.22) / 0.46) ** 2) - ((coarse.y - 1.02) / 0.46) ** 2)
    patchy = _step(coarse.field(disease.patches) + 0.25, 1.6)
    spread = near * (0.35 + 0.65 * patchy)
    spread = _enlarge(np.float32(disease.severity**0.8) * spread, film.size)
    # The zero lines of a random field form a net: the reticular pattern.
    net = 0
    for coefficients in disease.mesh:
        field = film.field(coefficients)
        net = net + 1 / (1 + field * field * 40)
    return spread * (0.18 + 0.34 * net + 0.35 * np.minimum(walls, 1))


def _expose(density, patient, pose, view):
    v = patient.values
    small = Image.fromarray(density).resize((16, 16), Image.Resampling.BOX)
    haze = np.asarray(small.resize(density.shape[::-1], Image.Resampling.BICUBIC))
    share = np.float32(min(v["scatter"] * (1.5 if view == "AP" else 1.0), 0.4))
    density = density + share * (haze - density)
    point = v["grey_point"] * (1 + pose["exposure"])
    # Characteristic curve of a film: a toe, a straight part and a shoulder.
    steps = np.linspace(0, 2, TABLE_SIZE)
    film_curve = 1 / (1 + (point / np.maximum(steps, 1e-3)) ** v["grey_slope"])
    film_curve = (v["fog"] + (250 - v["fog"]) * film_curve).astype(np.float32)
    index = np.clip(density * np.float32((TABLE_SIZE - 1) / 2), 0, TABLE_SIZE - 1)
    return film_curve.take(index.astype(np.int32))
