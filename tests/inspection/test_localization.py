import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_cxr.datasets import load_nih, make_chest_xrays
from sklearn_cxr.inspection import class_activation_map, localization_report
from sklearn_cxr.neural_network import CNNClassifier
from sklearn_cxr.preprocessing import ImageReader


def box_map(size, x, y, w, h):
    values = np.zeros(size)
    values[y : y + h, x : x + w] = 1.0
    return values


def test_a_perfect_map():
    boxes = [[3, 4, 10, 6], [20, 8, 5, 9]]
    maps = [box_map((30, 40), *box) for box in boxes]
    report = localization_report(maps, boxes, random_state=0)
    names = ["pointing_game", "energy", "iou@0.25", "iou@0.5", "iou@0.75", "box_share"]
    assert report.index.tolist() == names
    assert report["maps"].tolist() == pytest.approx([1, 1, 1, 1, 1, (60 + 45) / 2 / 1200])
    assert report.loc["energy", ["low", "high"]].tolist() == pytest.approx([1, 1])
    assert (report["n_films"] == 2).all() and (report["n_empty"] == 0).all()


def test_figures_by_hand():
    values = np.zeros((10, 10))
    values[2, 2], values[2, 3], values[7, 7] = 1.0, 0.6, 0.4
    values[0, 0] = -5.0
    report = localization_report([values], [[2, 2, 2, 2]], thresholds=(0.3, 0.5, 1.0))
    found = report["maps"]
    assert found["pointing_game"] == 1
    assert found["energy"] == pytest.approx(1.6 / 2)
    # 3 pixels found, 2 of the 4 of the box; 2 found and both in it; 1 found.
    assert found[["iou@0.3", "iou@0.5", "iou@1"]].tolist() == pytest.approx([2 / 5, 2 / 4, 1 / 4])


def test_boxes_cut_pixels_and_tied_maxima_are_shared():
    values = np.zeros((4, 4))
    values[1, 1] = values[3, 3] = 2.0
    found = localization_report([values], [[1.5, 1, 1, 1]])["maps"]
    assert found["pointing_game"] == 0.5
    assert found["energy"] == pytest.approx(2 * 0.5 / 4)
    assert found["box_share"] == pytest.approx(1 / 16)


def test_tolerance_widens_the_pointing_game_only():
    values = np.zeros((20, 20))
    values[10, 8] = 1.0
    near, far = (
        localization_report([values], [[10, 10, 4, 4]], tolerance=t)["maps"] for t in (2, 0)
    )
    assert (near["pointing_game"], far["pointing_game"]) == (1, 0)
    assert near["energy"] == far["energy"] == 0


def test_several_boxes_of_a_film_and_films_without():
    maps = [box_map((20, 20), 0, 0, 4, 4), np.ones((20, 20)), box_map((20, 20), 10, 10, 4, 4)]
    boxes = pd.DataFrame(
        {"w": [4, 4, 2], "h": [4, 4, 2], "x": [10.0, 2, 0], "y": [10.0, 2, 0], "label": "a"}
    )
    each = localization_report(maps, boxes, rows=[2, 2, 0], average=False, random_state=0)
    films = each.xs("maps", level="map")
    assert films.index.tolist() == [0, 2]
    assert films["energy"].tolist() == [pytest.approx(4 / 16), 1]
    assert films["iou@0.5"].tolist() == [pytest.approx(4 / 16), pytest.approx(16 / 32)]
    some = localization_report(maps, [[0, 0, 4, 4], [np.nan] * 4, [10, 10, 4, 4]])
    assert (some["n_films"] == 2).all() and some.loc["energy", "maps"] == 1


def test_an_empty_map_scores_nothing_and_is_counted():
    maps = [np.zeros((8, 8)), -np.ones((8, 8)), box_map((8, 8), 1, 1, 2, 2)]
    report = localization_report(maps, [[1, 1, 2, 2]] * 3)
    assert (report["n_empty"] == 2).all()
    assert report.loc["pointing_game", "maps"] == pytest.approx(1 / 3)


def test_maps_that_know_nothing():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0, 80, (60, 2)), rng.uniform(10, 40, (60, 2))])
    report = localization_report(np.ones((60, 60, 60)), boxes / 2, n_random=30, random_state=0)
    share = (boxes[:, 2] * boxes[:, 3]).mean() / 120**2
    assert report.loc["box_share", "maps"] == pytest.approx(share)
    # A constant map, and a random one, point into a box as often as it is large.
    assert report.loc["energy", "maps"] == pytest.approx(share)
    assert report.loc["pointing_game", "maps"] == pytest.approx(share, rel=0.2)
    assert report.loc["pointing_game", "random_map"] == pytest.approx(share, rel=0.4)
    assert report.loc["energy", "random_map"] == pytest.approx(share, rel=0.1)
    centre = localization_report(np.ones((2, 120, 120)), [[40, 40, 40, 40]] * 2, random_state=0)
    assert centre.loc["pointing_game", "centred_blob"] == 1
    # A Gaussian of a quarter of the side holds this share within a sixth around its centre, of
    # what lies within half.
    within, all_of_it = 0.495, 0.9545
    assert centre.loc["energy", "centred_blob"] == pytest.approx((within / all_of_it) ** 2, 0.01)


def test_intervals_are_by_patient_and_draws_are_governed():
    hit, miss = box_map((20, 20), 0, 0, 4, 4), box_map((20, 20), 12, 12, 4, 4)
    maps, boxes = [hit] * 20 + [miss] * 20, np.tile([0, 0, 4, 4], (40, 1))
    by_film = localization_report(maps, boxes, random_state=1)
    few = np.repeat(["a", "b", "c", "d"], 10)
    by_patient = localization_report(maps, boxes, groups=few, random_state=1)
    assert by_film.loc["energy", "low"] == pytest.approx(0.5 - 1.96 * 0.5 / 40**0.5, abs=0.04)
    assert by_patient.loc["energy", ["low", "high"]].tolist() == [0, 1]
    again = localization_report(maps, boxes, groups=few, random_state=1)
    pd.testing.assert_frame_equal(by_patient, again)
    alone = localization_report(maps[:2], boxes[:2], groups=["a", "a"])
    assert alone[["low", "high"]].isna().all(axis=None)


def test_phantoms_with_known_opacities():
    films = make_chest_xrays(12, image_size=64, random_state=0)
    boxes = films.frame[["x", "y", "w", "h"]]
    there = boxes["x"].notna().to_numpy()
    assert there.any() and not there.all()
    maps = films.images.astype(float)
    report = localization_report(maps, boxes, groups=films.groups, random_state=0)
    assert (report["n_films"] == there.sum()).all()
    area = (boxes["w"] * boxes["h"])[there].mean() / 64**2
    assert report.loc["box_share", "maps"] == pytest.approx(area, rel=0.01)


def averaging_network(image_shape, n_outputs):
    """Three convolutions whose last maps are averaged, as class activation maps need it."""
    layers, width = [], image_shape[2]
    for following in (12, 24, 32):
        layers += [
            nn.Conv2d(width, following, 3, padding=1),
            nn.BatchNorm2d(following),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        width = following
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_outputs)
    )


def test_maps_of_a_network_that_has_learned_beat_chance():
    pytest.importorskip("captum", reason="captum is the extra 'inspection'")
    options = {"image_size": 32, "classes": ("normal", "bacterial"), "severity": (0.5, 1.0)}
    train = make_chest_xrays(200, n_patients=200, random_state=0, **options)
    test = make_chest_xrays(60, n_patients=60, random_state=1, **options)
    model = CNNClassifier(
        averaging_network,
        lr=3e-3,
        lr_schedule="onecycle",
        batch_size=16,
        max_epochs=14,
        random_state=0,
    ).fit(train.images, train.target)
    assert model.score(test.images, test.target) > 0.85
    ill = np.flatnonzero(test.target == 1)
    report = localization_report(
        class_activation_map(model, test.images[ill], target=1).maps,
        test.frame.loc[ill, ["x", "y", "w", "h"]],
        groups=test.groups[ill],
        random_state=0,
    )
    for figure in ("pointing_game", "energy"):
        # Not by luck: with the whole interval.
        row = report.loc[figure]
        assert row["low"] > 1.3 * max(row["random_map"], row["centred_blob"])


def test_the_boxed_films_of_nih(data_root):
    pytest.importorskip("captum", reason="captum is the extra 'inspection'")
    data = load_nih(data_root / "nih", subset="all", task="abnormal", missing="warn")
    names = data.frame["image"].tolist()
    boxed = [name for name in names if name in set(data.boxes["image"])]
    rows = [boxed.index(name) for name in data.boxes["image"]]
    assert len(boxed) == 6
    maps = [np.ones((1024, 1024), dtype=np.float32)] * 6
    report = localization_report(maps, data.boxes, rows=rows, random_state=0)
    share = (data.boxes["w"] * data.boxes["h"]).sum() / 6 / 1024**2
    assert report.loc["energy", "maps"] == pytest.approx(share, rel=1e-6)
    assert (report["n_films"] == 6).all()
    # Files of 1024 pixels through a network of 32, and back to where the boxes are.
    paths = [data.images[names.index(name)] for name in boxed]
    network = CNNClassifier(channels=(4,), dense=(), max_epochs=1, random_state=0)
    model = make_pipeline(ImageReader(size=32), network).fit(paths, [0, 1] * 3)
    found = class_activation_map(model, paths, method="occlusion", target=1)
    assert found.maps.shape == (6, 1024, 1024)
    report = localization_report(found.maps, data.boxes, rows=rows, random_state=0)
    assert report["maps"].between(0, 1).all() and (report["n_films"] == 6).all()


@pytest.mark.parametrize(
    "box, message",
    [
        ([30, 5, 11, 5], "reaches 1.0?[0-9]* ?pixels outside|reaches 11 pixels outside"),
        ([-3, 5, 8, 5], "reaches 3 pixels outside of its 30 x 20"),
        ([5, 18, 4, 4], "reaches 2 pixels outside"),
        ([5, 5, 0, 4], "width and height above 0"),
        ([5, 5, 4, -1], "width and height above 0"),
        ([np.nan] * 4, "no box that is not NaN"),
        ([np.inf, 1, 2, 3], "infinity"),
        ([1, 2, 3], r"boxes of shape \(1, 3\)"),
    ],
)
def test_boxes_that_cannot_be(box, message):
    with pytest.raises(ValueError, match=message):
        localization_report([np.ones((20, 30))], [box])


def test_a_box_rounded_over_the_edge_is_taken():
    report = localization_report([np.ones((20, 30))], [[-0.6, 0, 10.6, 20.4]])
    assert report.loc["box_share", "maps"] == pytest.approx(1 / 3)


def test_bad_input():
    maps, boxes = np.ones((2, 8, 8)), [[1, 1, 2, 2]] * 2
    with pytest.raises(ValueError, match=r"maps\[0\] of shape \(8,\)"):
        localization_report(np.ones((2, 8)), boxes)
    with pytest.raises(ValueError, match=r"maps\[1\] with values that are NaN"):
        localization_report([maps[0], maps[1] * np.nan], boxes)
    with pytest.raises(ValueError, match="3 boxes for 2 maps"):
        localization_report(maps, [[1, 1, 2, 2]] * 3)
    with pytest.raises(ValueError, match="rows from 0 to 2 for 2 maps"):
        localization_report(maps, boxes, rows=[0, 2])
    with pytest.raises(ValueError, match="number of a map for each box"):
        localization_report(maps, boxes, rows=[0.0, 1.0])
    with pytest.raises(ValueError, match="without the columns"):
        localization_report(maps, pd.DataFrame({"x": [1], "y": [1]}))
    with pytest.raises(ValueError, match="thresholds"):
        localization_report(maps, boxes, thresholds=(0.5, 1.5))
    with pytest.raises(ValueError, match="groups"):
        localization_report(maps, boxes, groups=["a"])
