"""What cannot be learnt from, or answered, and what is said of it."""

import numpy as np
import pytest
from network_common import StagedBackbone, cnn, dense, make_films, transfer
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import nn

X, Y, PATIENTS = make_films()
UNIT = X / 255
NETWORKS = {"cnn": cnn, "transfer": transfer, "dense": dense}
ON_IMAGES = {"cnn": cnn, "transfer": transfer}
each = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
each_on_images = pytest.mark.parametrize("make", ON_IMAGES.values(), ids=ON_IMAGES)


def flat(images):
    return images.reshape(len(images), -1)


@each
@pytest.mark.parametrize(("bad", "words"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_images_that_are_not_finite(make, bad, words):
    images = flat(UNIT).copy()
    images[3, 20] = bad
    clf = make()
    with pytest.raises(ValueError, match=f"contains {words}"):
        clf.fit(images, Y)
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)
    clf.fit(flat(UNIT), Y)
    with pytest.raises(ValueError, match=f"contains {words}"):
        clf.predict(images)


@each
def test_constant_images_give_the_share_of_the_classes(make):
    images = np.full((24, 81), 90, dtype=np.uint8)
    y = np.arange(24) % 4 == 0
    params = {} if make is dense else {"batch_size": 24}
    clf = make(max_epochs=150, lr=0.05, **params).fit(images, y)
    probabilities = clf.predict_proba(images)
    assert np.ptp(probabilities[:, 1]) < 1e-9
    assert probabilities[0, 1] == pytest.approx(0.25, abs=0.05)


@each
def test_no_image(make):
    with pytest.raises(ValueError, match="0 sample"):
        make().fit(flat(X)[:0], Y[:0])
    clf = make().fit(flat(X), Y)
    with pytest.raises(ValueError, match="0 sample"):
        clf.predict(flat(X)[:0])


@each
def test_one_image(make):
    with pytest.raises(ValueError, match=r"one class only \(\[0\]\): .* at least 2 classes"):
        make().fit(flat(X)[:1], Y[:1])
    clf = make().fit(flat(X), Y)
    np.testing.assert_allclose(
        clf.predict_proba(flat(X)[:1]), clf.predict_proba(flat(X))[:1], rtol=1e-5
    )


@each
def test_one_class(make):
    with pytest.raises(ValueError, match=r"y holds one class only \(\['normal'\]\)"):
        make().fit(flat(X), np.full(24, "normal"))


@each
def test_one_class_that_has_a_weight(make):
    with pytest.raises(ValueError, match=r"one class only \(\[1\]\)"):
        make().fit(flat(X), Y, sample_weight=Y.astype(float))


def test_a_batch_of_one_image_under_batch_normalisation():
    films, y, _ = make_films(25)
    clf = transfer(StagedBackbone, batch_size=8).fit(films, y)
    assert np.isfinite(clf.predict_proba(films)).all()


@each
@pytest.mark.parametrize("other", [np.array(["0", "1"])[Y], np.array(["normal", "viral"])[Y]])
def test_labels_of_another_type_at_score(make, other):
    clf = make().fit(flat(X), Y)
    with pytest.raises(ValueError, match=r"None of the labels of y .* is among those of the fit"):
        clf.score(flat(X), other)
    clf = make().fit(flat(X), other)
    with pytest.raises(ValueError, match=r"None of the labels of y .* is among those of the fit"):
        clf.score(flat(X), Y)
    assert 0 <= clf.score(flat(X), other) <= 1


@each
def test_target_that_is_missing_or_too_short(make):
    with pytest.raises(ValueError, match="requires y to be passed"):
        make().fit(flat(X), None)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make().fit(flat(X), Y[:-1])


@each
def test_labels_that_are_unknown_in_one_column(make):
    y = Y.astype(float)
    y[0] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        make().fit(flat(X), y)


@each
def test_groups_that_are_too_few(make):
    with pytest.raises(ValueError, match="got 23 patient ids in groups for 24 images"):
        make(early_stopping=True).fit(flat(X), Y, groups=PATIENTS[:-1])
    with pytest.raises(ValueError, match="at least two patients"):
        make(early_stopping=True).fit(flat(X), Y, groups=np.zeros(24))


@each
def test_negative_sample_weights(make):
    with pytest.raises(ValueError, match=r"[Nn]egative values"):
        make().fit(flat(X), Y, sample_weight=-np.ones(24))


@each_on_images
def test_images_of_another_size_at_predict(make):
    clf = make().fit(X, Y)
    with pytest.raises(ValueError, match=r"Got images of shape \(7, 7\), but .* on \(9, 9\)"):
        clf.predict(X[:, :7, :7])
    with pytest.raises(ValueError, match="X has 49 features, but"):
        clf.predict(flat(X[:, :7, :7]))
    with pytest.raises(ValueError, match=r"Got one image of shape|\(n, h, w\)|features"):
        clf.predict(X[0])


@each_on_images
def test_colour_for_a_network_of_grey_films(make):
    clf = make().fit(X, Y)
    colour = np.repeat(X[..., None], 3, axis=3)
    with pytest.raises(ValueError, match=r"Got images of shape \(9, 9, 3\), but"):
        clf.predict(colour)


def test_channels_that_the_backbone_does_not_take():
    colour = np.repeat(X[..., None], 3, axis=3)
    with pytest.raises(ValueError, match=r"Got images of 3 channels, but the network takes 1"):
        transfer().fit(colour, Y)
    with pytest.raises(ValueError, match=r"Got images of 2 channels, but the network takes 3"):
        transfer("resnet18").fit(colour[..., :2], Y)


@each_on_images
def test_levels_up_to_255_for_a_network_of_levels_up_to_one(make):
    clf = make().fit(UNIT, Y)
    with pytest.raises(ValueError, match=r"fitted on floats? .*0.*1|in \[0, 1\]"):
        clf.predict(X.astype(float))
    with pytest.raises(ValueError, match=r"fitted on|in \[0, 1\]"):
        clf.predict(X)
    clf = make().fit(X, Y)
    with pytest.raises(ValueError, match="was fitted on uint8"):
        clf.predict(UNIT)


def test_levels_of_a_pretrained_network_have_to_be_known():
    with pytest.raises(ValueError, match="say value_range"):
        transfer().fit(X.astype(np.int64), Y)
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        transfer().fit(X.astype(float), Y)
    with pytest.raises(ValueError, match=r"expected values in \[0, 100\]"):
        transfer(value_range=(0, 100)).fit(X, Y)


@each
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"lr": -1e-3}, "'lr' parameter"),
        ({"lr": 0}, "'lr' parameter"),
        ({"weight_decay": -1}, "'weight_decay' parameter"),
        ({"optimizer": "adm"}, "'optimizer' parameter .*'adam'"),
        ({"lr_schedule": "step"}, "'lr_schedule' parameter .*'plateau'"),
        ({"precision": "float16"}, "'precision' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"batch_size": 2.0}, "'batch_size' parameter"),
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"max_epochs": True}, "'max_epochs' parameter"),
        ({"label_smoothing": 1.0}, "'label_smoothing' parameter"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"weight_averaging": 1.0}, "'weight_averaging' parameter"),
        ({"class_weight": "balance"}, "'class_weight' parameter"),
        ({"class_weight": {7: 2.0}}, r"class_weight names \[7\]"),
        ({"device": "gpu"}, "is not known. Say 'auto'"),
        ({"device": "cuda:99"}, "is not available here"),
    ],
)
def test_parameters(make, params, words):
    with pytest.raises(ValueError, match=words):
        make(**params).fit(flat(X), Y)


@each_on_images
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"augment": "rotat"}, "expected one of flip.*Did you mean 'rotate'"),
        ({"augment": {"rotate": 500}}, "rotate=500"),
        ({"tta": "flp"}, "Did you mean 'flip'"),
        ({"mixup": -0.1}, "'mixup' parameter"),
        ({"image_shape": (3, 3)}, "image_shape"),
    ],
)
def test_parameters_of_images(make, params, words):
    with pytest.raises(ValueError, match=words):
        make(**params).fit(flat(X), Y)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("basline", "'baseline'"),
        ("densenet121", "TransferClassifier"),
        (nn.Linear, "in_features"),
        (lambda image_shape, n_outputs: nn.Flatten(), r"expected logits of shape \(2, 1\)"),
        (lambda: 3, "expected a torch.nn.Module"),
    ],
)
def test_architectures(architecture, words):
    with pytest.raises((ValueError, TypeError), match=words):
        cnn(architecture).fit(X, Y)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"backbone": "densnet121"}, "Did you mean 'densenet121'"),
        ({"backbone": "resnet18", "weights": "imagnet"}, "Did you mean 'imagenet'"),
        ({"backbone": "resnet18", "weights": "/nowhere/model.pth"}, "/nowhere/model.pth"),
        ({"fine_tune": "tail"}, "'fine_tune' parameter"),
        ({"channels": "mean"}, "'channels' parameter"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"backbone_lr": -1.0}, "'backbone_lr' parameter"),
        ({"sha256": "0" * 64}, "sha256 is given, but weights=None"),
        ({"value_range": (1, 0)}, "value_range must be two finite numbers"),
        ({"backbone": dict}, "no torch.nn.Module"),
    ],
)
def test_parameters_of_a_transferred_network(params, words):
    with pytest.raises((ValueError, OSError), match=words):
        transfer(**params).fit(X, Y)


def test_images_too_small_for_the_network():
    with pytest.raises(ValueError, match=r"9 x 9|\(9, 9\)"):
        cnn("baseline").fit(X, Y)
    with pytest.raises(ValueError, match="can take are 75 x 75"):
        transfer("inception_v3").fit(X, Y)


@each
def test_before_fit(make):
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(make(), method)(flat(X))
    with pytest.raises(NotFittedError):
        make().score(flat(X), Y)
    with pytest.raises(NotFittedError):
        make().to_onnx("nowhere.onnx")


@each
def test_an_error_of_parameters_leaves_nothing_fitted(make):
    clf = make().fit(flat(X), Y).set_params(class_weight={7: 2.0})
    with pytest.raises(ValueError, match="class_weight names"):
        clf.fit(flat(X), Y)
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)
