import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC
from torch import nn

from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.inspection import class_activation_map
from sklearn_cxr.inspection._activation_linear import linear_tail
from sklearn_cxr.inspection._activation_resample import to_original
from sklearn_cxr.linear_model import PixelLogisticRegression
from sklearn_cxr.neural_network import CNNClassifier, DenseHeadClassifier, TransferClassifier
from sklearn_cxr.preprocessing import (
    CropBorders,
    Flatten,
    ImageReader,
    Resize,
    SquarePad,
)

pytest.importorskip("captum", reason="captum is the extra 'inspection'")


class Averaging(nn.Module):
    """Two convolutions, an average, one linear layer: what CAM is defined for."""

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.early = nn.Conv2d(image_shape[2], 4, 3, padding=1)
        # In place, as in many published networks.
        self.rectify = nn.ReLU(inplace=True)
        self.late = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.output = nn.Linear(6, n_outputs)

    def forward(self, images):
        late = self.late(self.rectify(self.early(images)))
        return self.output(torch.relu_(late).mean(dim=(2, 3)))


class AveragedMaps(nn.Module):
    """The same with a layer for its last ReLU."""

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(image_shape[2], 6, 3, stride=2, padding=1), nn.ReLU())
        self.output = nn.Linear(6, n_outputs)

    def forward(self, images):
        return self.output(self.maps(images).mean(dim=(2, 3)))


class Tokens(nn.Module):
    """Patches as tokens behind a class token, which alone is read."""

    def __init__(self, image_shape, n_outputs):
        super().__init__()
        self.patches = nn.Conv2d(image_shape[2], 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.after = nn.Linear(8, 8)
        self.output = nn.Linear(8, n_outputs)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        normed = self.norm(tokens)
        mixed = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.output(self.after(mixed)[:, 0])


def backbone():
    return nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU())


@pytest.fixture(scope="module")
def films():
    # Class 1 has a bright square at the upper left, class 2 one at the lower right.
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.integers(0, 60, (60, 16, 16), dtype=np.uint8)
    X[y == 1, 2:7, 2:7] += 150
    X[y == 2, 9:14, 9:14] += 150
    return X, y


def fit(model, films, classes=(0, 1, 2)):
    X, y = films
    kept = np.isin(y, classes)
    return model.fit(X[kept], y[kept])


@pytest.fixture(scope="module")
def network(films):
    return fit(
        CNNClassifier(AveragedMaps, max_epochs=40, lr=0.03, batch_size=16, random_state=0), films
    )


def pieces(network, X):
    """Map before the average, weights and logits, computed by hand."""
    module = network.net_.module_
    with torch.no_grad():
        images = module.prepare(torch.from_numpy(X), torch.float32)
        maps = module.body.maps(images)
        return maps.numpy(), module.body.output.weight.numpy(), module.body(images).numpy()


# what the methods compute


def test_cam_weighs_the_maps_and_adds_up_to_the_logit(films, network):
    X, _ = films
    maps, weights, logits = pieces(network, X[:6])
    found = class_activation_map(network, X[:6], method="cam", target=2, space="model")
    expected = np.einsum("k,nkij->nij", weights[2], maps)
    # A map of 8 x 8 cells stretched over 16 pixels keeps its mean.
    assert found.layer == "maps"
    assert found.maps.mean(axis=(1, 2)) == pytest.approx(expected.mean(axis=(1, 2)), rel=1e-4)
    bias = network.net_.module_.body.output.bias[2].item()
    assert found.score == pytest.approx(logits[:, 2], abs=1e-4)
    assert expected.mean(axis=(1, 2)) + bias == pytest.approx(found.score, abs=1e-4)


def test_gradcam_is_the_positive_part_of_cam_divided_by_its_places(films, network):
    X, _ = films
    maps, weights, _ = pieces(network, X[:6])
    found = class_activation_map(network, X[:6], target=1, space="model")
    expected = np.clip(np.einsum("k,nkij->nij", weights[1] / 64, maps), 0, None)
    at = found.maps[:, 2::4, 2::4]
    # Pixel 2 lies a quarter of the way from cell 1 to cell 0 along each axis, and so on.
    blocks = [expected[:, 0::2, :], expected[:, 1::2, :]]
    lines = 0.25 * blocks[0] + 0.75 * blocks[1]
    by_hand = 0.25 * lines[:, :, 0::2] + 0.75 * lines[:, :, 1::2]
    assert at == pytest.approx(by_hand, abs=1e-5)


def test_gradcam_plus_plus_as_published(films, network):
    X, _ = films
    maps, weights, _ = pieces(network, X[:4])
    gradient = (weights[1] / 64)[None, :, None, None]
    total = maps.sum(axis=(2, 3), keepdims=True)
    share = gradient**2 / (2 * gradient**2 + total * gradient**3)
    alpha = (share * np.clip(gradient, 0, None) * np.ones_like(maps)).sum(axis=(2, 3))
    expected = np.clip(np.einsum("nk,nkij->nij", alpha, maps), 0, None)
    found = class_activation_map(network, X[:4], method="gradcam++", target=1, space="model")
    assert found.maps.mean(axis=(1, 2)) == pytest.approx(expected.mean(axis=(1, 2)), rel=1e-3)


def test_saliency_is_the_size_of_the_gradient(films, network):
    X, _ = films
    found = class_activation_map(network, X[:1], method="saliency", target=1)
    step = np.zeros((2, 16, 16))
    step[0, 5, 4], step[1, 5, 4] = 1, -1
    module = network.net_.module_
    with torch.no_grad():
        near = torch.from_numpy(X[:1] / 255 + 1e-3 * step).float()[:, None]
        logits = module.body(module.prepare.normalise(near))[:, 1].numpy()
    assert found.maps[0, 5, 4] == pytest.approx(abs(logits[0] - logits[1]) / 2e-3, rel=0.05)


def test_integrated_gradients_add_up_to_the_difference_of_scores(films, network):
    X, _ = films
    options = {"method": "integrated_gradients", "target": 2, "n_steps": 200}
    found = class_activation_map(network, X[:5], baseline=0, **options)
    black = class_activation_map(network, np.zeros_like(X[:1]), baseline=0, **options)
    assert not black.maps.any()
    assert found.maps.sum(axis=(1, 2)) == pytest.approx(found.score - black.score, rel=0.03)


@pytest.mark.parametrize(
    "method", ["cam", "gradcam", "gradcam++", "integrated_gradients", "occlusion"]
)
def test_maps_are_where_the_square_is(films, network, method):
    X, y = films
    for label, here in ((1, np.s_[:, 1:8, 1:8]), (2, np.s_[:, 8:15, 8:15])):
        found = class_activation_map(network, X[y == label][:5], method=method, target=label)
        maps = np.clip(found.maps, 0, None)
        # The square and its rim are 19% of the film.
        assert maps[here].sum() > 0.6 * maps.sum()
        assert (found.target == label).all()


def test_occlusion_of_the_whole_film_is_the_difference_of_scores(films, network):
    X, _ = films
    found = class_activation_map(
        network, X[:2], method="occlusion", target=1, window=16, baseline=100
    )
    grey = class_activation_map(
        network, np.full_like(X[:1], 100), method="occlusion", target=1, window=16, baseline=100
    )
    assert found.maps[:, 3, 3] == pytest.approx(found.score - grey.score, rel=1e-3, abs=1e-4)
    assert np.ptp(found.maps, axis=(1, 2)) == pytest.approx(0, abs=1e-6)


def test_the_target_is_by_default_what_is_predicted(films, network):
    X, _ = films
    found = class_activation_map(network, X)
    assert found.target.tolist() == network.predict(X).tolist()
    each = class_activation_map(network, X[:4], target=[0, 1, 2, 0])
    assert each.target.tolist() == [0, 1, 2, 0]
    one = class_activation_map(network, X[1:2], target=1)
    assert each.maps[1] == pytest.approx(one.maps[0], rel=1e-4)


def test_of_two_classes_the_first_is_the_other_sign(films):
    model = fit(CNNClassifier(AveragedMaps, max_epochs=3, random_state=0), films, (0, 1))
    X = films[0][:3]
    first, second = (class_activation_map(model, X, method="cam", target=t) for t in (0, 1))
    assert first.score == pytest.approx(-second.score)
    assert first.maps == pytest.approx(-second.maps, abs=1e-6)


def test_several_labels_with_unknown_ones(films):
    X, y = films
    labels = np.column_stack([y == 1, y == 2, y == 0]).astype(float)
    labels[::7, 0] = np.nan
    model = CNNClassifier(AveragedMaps, max_epochs=10, lr=0.03, random_state=0).fit(X, labels)
    found = class_activation_map(model, X[:3], target=1)
    assert found.target.tolist() == [1, 1, 1] and found.maps.shape == (3, 16, 16)


# networks


def test_writing_into_a_layers_output_does_not_matter(films):
    model = fit(CNNClassifier(Averaging, max_epochs=2, random_state=0), films)
    X = films[0][:2]
    for layer in ("early", "rectify", "late", None):
        found = class_activation_map(model, X, layer=layer, target=1)
        assert found.layer == ("late" if layer is None else layer)
        assert np.isfinite(found.maps).all()
    with pytest.raises(ValueError, match="not just averaged"):
        class_activation_map(model, X, method="cam")


def test_tokens_behind_a_class_token(films):
    model = fit(CNNClassifier(Tokens, max_epochs=2, random_state=0), films)
    found = class_activation_map(model, films[0][:2], target=1)
    # What comes after the attention reaches the score through the class token only.
    assert found.layer == "norm"
    assert found.maps.max() > 0
    with pytest.raises(ValueError, match="not just averaged"):
        class_activation_map(model, films[0][:2], method="cam")


def test_channels_last_maps(films):
    class Last(AveragedMaps):
        def __init__(self, image_shape, n_outputs):
            super().__init__(image_shape, n_outputs)
            self.turned = nn.Identity()

        def forward(self, images):
            return self.output(self.turned(self.maps(images).permute(0, 2, 3, 1)).mean((1, 2)))

    model = fit(CNNClassifier(Last, max_epochs=2, random_state=0), films)
    found, other = (
        class_activation_map(model, films[0][:2], method="cam", target=1, layer=layer)
        for layer in (None, "maps")
    )
    assert found.layer == "turned"
    assert found.maps == pytest.approx(other.maps, abs=1e-5)


@pytest.mark.parametrize("name, last", [("densenet121", "features"), ("resnet18", "layer4")])
def test_published_backbones_after_reload(name, last, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (2, 64, 64), dtype=np.uint8), np.array([0, 1])
    model = TransferClassifier(
        name, weights=None, fine_tune="head", augment=None, max_epochs=1, random_state=0
    ).fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    found, other = (
        class_activation_map(m, X[:2], method="cam", target=1, space="model")
        for m in (model, again)
    )
    assert found.layer == last
    assert found.maps == pytest.approx(other.maps, rel=1e-4, abs=1e-6)
    # It went to its device to be looked into, as it would have to predict.
    assert not again.net_.waits
    # CAM adds up to the logit where it takes the map that is averaged.
    head = again.net_.module_.body.head[-1]
    assert found.maps.mean(axis=(1, 2)) + head.bias.item() == pytest.approx(found.score, rel=1e-3)
    # The model that was looked into is as it was.
    assert not any(module._forward_hooks for module in again.net_.module_.modules())
    assert "relu5" not in dict(again.net_.module_.named_modules())
    assert model.predict_proba(X) == pytest.approx(again.predict_proba(X), abs=1e-6)


# what comes after features


@pytest.mark.parametrize("layer", ["pool", "2"])
def test_a_linear_model_on_backbone_features_weighs_their_channels(films, layer):
    X, y = films
    features = BackboneFeatures(
        backbone, weights=None, layer=layer, precision="float32", random_state=0
    )
    model = make_pipeline(features, StandardScaler(), LogisticRegression()).fit(X, y)
    found = class_activation_map(model, X[:3], method="cam", target=1, space="model")
    weights = model[-1].coef_[1] / model[1].scale_
    with torch.no_grad():
        # A module of one's own gets grey levels around 0 with deviation 1: 0.5 and 0.25 of white.
        images = (X[:3] / np.float32(255) - 0.5) / 0.25
        images = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1)
        depth = 4 if layer == "pool" else 3
        maps = model[0].backbone_.body[:depth](images).numpy()
    expected = np.einsum("k,nkij->nij", weights, maps)
    assert found.layer == ("3" if layer == "pool" else "2")
    by_hand = to_original(expected, (16, 16), np.tile(np.eye(2, 3), (3, 1, 1)), [(16, 16)] * 3)
    assert found.maps == pytest.approx(by_hand, abs=1e-4)
    assert found.score == pytest.approx(model.decision_function(X[:3])[:, 1], abs=1e-4)


def test_dense_layers_on_features_and_on_components(films):
    X, y = films
    features = BackboneFeatures(backbone, weights=None, precision="float32", random_state=0)
    dense = DenseHeadClassifier((8,), max_epochs=3, random_state=0)
    model = make_pipeline(features, PCA(3, whiten=True), dense).fit(X, y)
    found = class_activation_map(model, X[:2], target=0)
    probability = np.exp(found.score) / np.exp(
        np.column_stack(
            [class_activation_map(model, X[:2], target=label).score for label in range(3)]
        )
    ).sum(axis=1)
    assert probability == pytest.approx(model.predict_proba(X[:2])[:, 0], abs=1e-4)
    on_pixels = make_pipeline(Flatten(), PCA(4), dense).fit(X, y)
    assert class_activation_map(on_pixels, X[:2], method="saliency").maps.shape == (2, 16, 16)
    with pytest.raises(ValueError, match="dense layers on pixels only"):
        class_activation_map(on_pixels, X[:2])


# linear models


def test_linear_models_answer_with_their_coefficients(films):
    X, y = films
    model = PixelLogisticRegression(C=0.01).fit(X, y)
    found = class_activation_map(model, X[:4], target=2)
    assert found.maps == pytest.approx(np.repeat(model.coef_image_[2:], 4, axis=0), rel=1e-5)
    assert found.score == pytest.approx(model.decision_function(X[:4])[:, 2])
    binary = fit(PixelLogisticRegression(C=0.01), films, (0, 1))
    found = class_activation_map(binary, X[:2], target=0)
    assert found.maps == pytest.approx(np.repeat(-binary.coef_image_, 2, axis=0), rel=1e-5)


def test_rows_of_zarr_are_no_list_of_films(films, tmp_path, monkeypatch):
    X, y = films
    rows = zarr.open(str(tmp_path / "z"), mode="w", shape=X.shape, dtype=X.dtype)
    rows[:] = X
    model = make_pipeline(Resize(8), PixelLogisticRegression(C=0.01)).fit(X, y)
    expected, as_array = class_activation_map(model, X, target=1), zarr.Array.__array__

    def refuse_objects(self, *args, **kwargs):
        found = as_array(self, *args, **kwargs)
        assert found.dtype == X.dtype, "its pixels were taken for names of films"
        return found

    monkeypatch.setattr(zarr.Array, "__array__", refuse_objects)
    found = class_activation_map(model, rows, target=1)
    np.testing.assert_array_equal(found.maps, expected.maps)
    np.testing.assert_array_equal(found.score, expected.score)


def test_coefficients_are_carried_back_through_affine_steps(films):
    X, y = films
    flat = X.reshape(60, -1).astype(float)
    for steps in (
        [StandardScaler(), SelectKBest(k=40), PCA(5, whiten=True)],
        [MinMaxScaler(), PCA(6), RobustScaler()],
    ):
        model = make_pipeline(*steps, LogisticRegression()).fit(flat, y)
        coef, intercept = linear_tail([step for _, step in model.steps])
        assert flat @ coef.T + intercept == pytest.approx(model.decision_function(flat), abs=1e-6)
    model = make_pipeline(Flatten(), PCA(5), LogisticRegression()).fit(X, y)
    image = (model[-1].coef_ @ model[1].components_)[1].reshape(16, 16)
    found = class_activation_map(model, X[:1], target=1, method="saliency")
    assert found.maps[0] == pytest.approx(image, rel=1e-4, abs=1e-8)


def test_integrated_gradients_of_a_linear_model(films):
    X, y = films
    model = PixelLogisticRegression(C=0.01).fit(X, y)
    found = class_activation_map(
        model, X[:2], method="integrated_gradients", target=1, baseline=10, n_steps=5
    )
    by_hand = model.coef_[1].reshape(16, 16) * (X[:2].astype(float) - 10)
    assert found.maps == pytest.approx(by_hand, abs=1e-4)


def test_linear_models_import_neither_torch_nor_captum():
    # In a process of its own, since this one has both.
    program = (
        "import sys, numpy as np\n"
        "from sklearn.linear_model import RidgeClassifier\n"
        "from sklearn_cxr.inspection import class_activation_map\n"
        "X = np.arange(64.0).reshape(4, 16)\n"
        "class_activation_map(RidgeClassifier().fit(X, [0, 0, 1, 1]), X)\n"
        "assert not {'torch', 'captum', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_occlusion_of_any_classifier(films):
    X, y = films
    model = make_pipeline(Flatten(), RandomForestClassifier(20, random_state=0)).fit(X, y)
    found = class_activation_map(model, X[y == 1][:2], method="occlusion", target=1, window=4)
    maps = np.clip(found.maps, 0, None)
    assert maps[:, 1:8, 1:8].sum() > 0.6 * maps.sum()
    assert found.score == pytest.approx(model.predict_proba(X[y == 1][:2])[:, 1])


# back to the original


@pytest.fixture
def wide():
    # 24 x 40 with a black frame of 4 at the left; class 1 has a bright square at (8, 24).
    rng = np.random.default_rng(1)
    X = np.zeros((40, 24, 40), dtype=np.uint8)
    X[:, :, 4:] = rng.integers(30, 90, (40, 24, 36))
    y = np.arange(40) % 2
    X[y == 1, 8:15, 24:31] = 220
    return X, y


def test_maps_come_back_through_pads_crops_and_resizes(wide):
    X, y = wide
    net = CNNClassifier(AveragedMaps, max_epochs=25, lr=0.03, batch_size=8, random_state=0)
    model = make_pipeline(CropBorders(), SquarePad(), Resize(32), net).fit(X, y)
    found = class_activation_map(model, X[y == 1][:4], target=1)
    assert found.maps.shape == (4, 24, 40)
    for values in found.maps:
        row, column = np.unravel_index(values.argmax(), values.shape)
        assert 6 <= row <= 16 and 22 <= column <= 32
    # The crop left out the frame: nothing was seen there.
    assert not found.maps[:, :, :3].any()
    inside = class_activation_map(model, X[y == 1][:4], target=1, space="model")
    assert inside.maps.shape == (4, 32, 32)


def test_paths_of_several_sizes_and_flat_rows(wide, tmp_path):
    X, y = wide
    paths = []
    for number, film in enumerate(X):
        image = Image.fromarray(film)
        if number % 3 == 0:
            image = image.resize((80, 48), Image.Resampling.NEAREST)
        paths.append(str(tmp_path / f"{number}.png"))
        image.save(paths[-1])
    frame = pd.DataFrame({"path": paths})
    net = CNNClassifier(AveragedMaps, max_epochs=20, lr=0.03, batch_size=8, random_state=0)
    model = make_pipeline(
        ImageReader(size=(16, 24), output="flat"), net.set_params(image_shape=(16, 24))
    )
    model.fit(frame, y)
    found = class_activation_map(model, frame.iloc[[1, 3]], target=1)
    assert [values.shape for values in found.maps] == [(24, 40), (48, 80)]
    for values, factor in zip(found.maps, (1, 2), strict=True):
        row, column = np.unravel_index(values.argmax(), values.shape)
        assert 5 * factor <= row <= 17 * factor and 21 * factor <= column <= 33 * factor


def test_searches_and_thresholds_are_opened(films):
    X, y = films
    kept = y < 2
    search = GridSearchCV(
        make_pipeline(Flatten(), LogisticRegression(max_iter=500)),
        {"logisticregression__C": [1e-3, 1e-2]},
        cv=2,
    ).fit(X[kept], y[kept])
    wrapped = FixedThresholdClassifier(search, threshold=0.3).fit(X[kept], y[kept])
    expected = search.best_estimator_[-1].coef_.reshape(16, 16)
    frozen = FixedThresholdClassifier(FrozenEstimator(search.best_estimator_), threshold=0.3)
    for model in (search, wrapped, frozen.fit(X[kept], y[kept])):
        found = class_activation_map(model, X[:1], target=1)
        assert found.maps[0] == pytest.approx(expected, rel=1e-5)


def test_maps_are_resampled_by_hand():
    affines = np.array([[[2.0, 0, 1], [0, 2.0, 0]]])
    values = np.array([[[0.0, 1.0], [2.0, 3.0]]])
    out = to_original(values, (2, 2), affines, [(4, 6)])
    # Column 0 lies left of what the model saw, column 5 right of it.
    assert out[0, 0].tolist() == [0, 0, 0.25, 0.75, 1, 0]
    assert out[0, :, 1].tolist() == [0, 0.5, 1.5, 2]
    coarse = to_original(np.arange(16.0).reshape(1, 4, 4), (4, 4), affines / 4, [(2, 2)])
    assert coarse.shape == (1, 2, 2)
    turned = np.array([[[0.0, 1, 0], [1.0, 0, 0]]])
    assert to_original(values, (2, 2), turned, [(2, 2)])[0].tolist() == [[0, 2], [1, 3]]


# bad input


def test_bad_input(films, network):
    X, y = films
    with pytest.raises(NotFittedError):
        class_activation_map(CNNClassifier(), X)
    with pytest.raises(NotFittedError):
        class_activation_map(make_pipeline(Resize(8), PixelLogisticRegression()), X)
    with pytest.raises(ValueError, match="'method' parameter"):
        class_activation_map(network, X, method="gradcamera")
    with pytest.raises(ValueError, match=r"target 'pneumonia'.*expected one of \[0, 1, 2\]"):
        class_activation_map(network, X, target="pneumonia")
    with pytest.raises(ValueError, match=r"target of shape \(2,\) for 60 films"):
        class_activation_map(network, X, target=[0, 1])
    with pytest.raises(ValueError, match=r"layer='map'.*Near it are maps"):
        class_activation_map(network, X, layer="map")
    with pytest.raises(ValueError, match="no map"):
        class_activation_map(network, X, layer="output")
    with pytest.raises(ValueError, match="window=20"):
        class_activation_map(network, X, method="occlusion", window=20)
    with pytest.raises(ValueError, match="fitted on"):
        class_activation_map(network, X[:, :8, :8])
    with pytest.raises(TypeError, match="no classes_"):
        class_activation_map(LinearRegression().fit(X.reshape(60, -1), y), X.reshape(60, -1))
    with pytest.raises(TypeError, match="predicts nothing"):
        class_activation_map(Resize(8).fit(X), X)


@pytest.mark.parametrize("method", ["gradcam", "saliency", "integrated_gradients"])
@pytest.mark.parametrize("classifier", [GaussianNB(), SVC(kernel="linear")])
def test_without_gradients(films, classifier, method):
    X, y = films
    model = make_pipeline(Flatten(), classifier).fit(X, y)
    with pytest.raises(TypeError, match=r"no gradients.*method='occlusion' works"):
        class_activation_map(model, X[:2], method=method)


def test_layers_that_do_not_run(films):
    class Spare(AveragedMaps):
        def __init__(self, image_shape, n_outputs):
            super().__init__(image_shape, n_outputs)
            self.spare = nn.Conv2d(1, 1, 1)

    model = fit(CNNClassifier(Spare, max_epochs=1, random_state=0), films)
    with pytest.raises(ValueError, match="does not run"):
        class_activation_map(model, films[0][:2], layer="spare")
