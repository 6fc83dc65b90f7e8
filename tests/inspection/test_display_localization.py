import matplotlib
import numpy as np
import pandas as pd
import pytest

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.inspection import (
    LocalizationDisplay,
    class_activation_map,
    localization_report,
)
from sklearn_cxr.linear_model import PixelLogisticRegression

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is the extra 'plot'")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def given():
    rng = np.random.RandomState(0)
    boxes = np.column_stack([rng.randint(0, 10, (12, 2)), rng.randint(4, 9, (12, 2))])
    good, bad = np.zeros((2, 12, 20, 20))
    for number, (x, y, w, h) in enumerate(boxes):
        good[number, y : y + h, x : x + w] = 1
        bad[number] = rng.uniform(size=(20, 20))
    return {"good": good, "bad": bad}, boxes


def drawn(display):
    """Places and widths of the marks: circles of the maps, their intervals, lines of chance."""
    circles, intervals, chance = {}, {}, {}
    for line in display.ax_.lines:
        x, y = line.get_data()
        if line.get_marker() == "o":
            circles[int(y[0])] = x[0]
        elif line.get_label() in ("random map", "centred blob"):
            chance[round(float(np.mean(y))), line.get_label()] = x[0]
        else:
            intervals[int(y[0])] = tuple(x)
    return circles, intervals, chance


def test_one_report_has_a_row_for_each_figure(given):
    maps, boxes = given
    report = localization_report(maps["bad"], boxes, confidence=0.9, random_state=0)
    display = LocalizationDisplay.from_report(report)
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == [
        "pointing game",
        "energy in boxes",
        "IoU above 25% of maximum",
        "IoU above 50% of maximum",
        "IoU above 75% of maximum",
    ]
    circles, intervals, chance = drawn(display)
    for place, metric in enumerate(report.index[:5]):
        row = report.loc[metric]
        assert circles[place] == row["maps"]
        assert intervals[place] == (row["low"], row["high"])
        assert chance[place, "random map"] == row["random_map"]
        assert chance[place, "centred blob"] == row["centred_blob"]
    assert display.ax_.get_xlabel() == "mean of 12 films, 90% interval"
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["maps", "random map", "centred blob"]


def test_several_reports_stand_below_each_other_for_each_figure(given):
    maps, boxes = given
    display = LocalizationDisplay.from_maps(
        maps, boxes, metrics=["energy", "iou@0.5"], n_random=3, random_state=0
    )
    labels = display.ax_.get_yticklabels()
    assert [text.get_text() for text in labels] == [
        "energy in boxes",
        "good",
        "bad",
        "IoU above 50% of maximum",
        "good",
        "bad",
    ]
    assert [text.get_fontweight() == "bold" for text in labels] == [True, False, False] * 2
    circles, *_ = drawn(display)
    assert circles[1] == circles[4] == pytest.approx(1)
    expected = localization_report(maps["bad"], boxes, n_random=3, random_state=0)
    assert circles[2] == expected.loc["energy", "maps"]
    pd.testing.assert_frame_equal(display.report["bad"], expected)


def test_one_map_each_gives_a_plain_report(given):
    maps, boxes = given
    display = LocalizationDisplay.from_maps(maps["good"], boxes, random_state=0)
    pd.testing.assert_frame_equal(
        display.report, localization_report(maps["good"], boxes, random_state=0)
    )


def test_of_an_estimator():
    films = make_chest_xrays(40, image_size=24, classes=("normal", "bacterial"), random_state=0)
    boxes = films.frame[["x", "y", "w", "h"]]
    model = PixelLogisticRegression(C=1e-3).fit(films.images, films.target)
    options = {"groups": films.groups, "n_random": 2, "random_state": 0}
    one = LocalizationDisplay.from_estimator(
        model, films.images, boxes, method="saliency", target=1, **options
    )
    maps = class_activation_map(model, films.images, method="saliency", target=1).maps
    expected = localization_report(maps, boxes, **options)
    pd.testing.assert_frame_equal(one.report, expected)
    several = LocalizationDisplay.from_estimator(
        model, films.images, boxes, method=["saliency", "cam"], target=1, **options
    )
    assert list(several.report) == ["saliency", "cam"]
    pd.testing.assert_frame_equal(several.report["saliency"], expected)


def test_one_patient_has_no_interval(given):
    maps, boxes = given
    display = LocalizationDisplay.from_maps(maps["bad"], boxes, groups=[0] * 12, random_state=0)
    circles, intervals, _ = drawn(display)
    assert np.isfinite(list(circles.values())).all()
    assert np.isnan(list(intervals.values())).all()


def test_what_cannot_be_drawn(given):
    maps, boxes = given
    report = localization_report(maps["bad"], boxes, thresholds=[0.5], random_state=0)
    each = localization_report(maps["bad"], boxes, average=False, random_state=0)
    with pytest.raises(ValueError, match=r"metrics=\['f1'\], but the report has \['pointing_game"):
        LocalizationDisplay(report).plot(metrics=["f1"])
    with pytest.raises(ValueError, match=r"the report of 'few' has .*'iou@0.5'"):
        LocalizationDisplay({"few": report}).plot(metrics=["iou@0.25"])
    with pytest.raises(ValueError, match=r"metrics=\[\]"):
        LocalizationDisplay(report).plot(metrics=[])
    with pytest.raises(ValueError, match=r"columns .*average=True"):
        LocalizationDisplay(each).plot()
    with pytest.raises(ValueError, match=r"got ndarray; expected the means .* from_maps"):
        LocalizationDisplay(maps["bad"]).plot()
    with pytest.raises(ValueError, match="got no report"):
        LocalizationDisplay({}).plot()
