"""Maps of published networks, with random weights."""

import joblib
import numpy as np
import pytest
import torch

from sklearn_cxr.inspection import class_activation_map
from sklearn_cxr.inspection._activation_resample import to_original
from sklearn_cxr.neural_network import TransferClassifier

pytest.importorskip("captum", reason="captum is the extra 'inspection'")


def films_of(size):
    return np.random.RandomState(0).randint(0, 256, size=(2, size, size)).astype(np.uint8)


def fit(name, X, **options):
    given = {"weights": None, "augment": None, "max_epochs": 1, "random_state": 0, **options}
    return TransferClassifier(name, fine_tune="head", **given).fit(X, [0, 1])


def check(maps, size):
    """Assert that the maps of each film and both classes are finite, and not the same all over."""
    assert maps.shape == (4, size, size) and np.isfinite(maps).all()
    # What speaks for one of two classes speaks against the other; a map of either is not flat.
    assert (np.ptp(np.abs(maps[:2]) + np.abs(maps[2:]), axis=(1, 2)) > 0).all()


def both_classes(model, X, method="gradcam"):
    return class_activation_map(
        model, np.concatenate([X, X]), method=method, target=[0, 0, 1, 1], space="model"
    )


@pytest.fixture(scope="module")
def films():
    return films_of(64)


@pytest.fixture(scope="module")
def models(films, tmp_path_factory):
    model = fit("densenet121", films)
    path = tmp_path_factory.mktemp("model") / "model.joblib"
    joblib.dump(model, path)
    return model, joblib.load(path)


@pytest.fixture(scope="module")
def pieces(films, models):
    """Map before the average of four films, and the weight of each channel, by hand."""
    module = models[0].net_.module_.eval()
    with torch.no_grad():
        images = module.prepare(torch.from_numpy(films), torch.float32)
        cells = torch.relu(module.body.backbone.body.features(images)).numpy()
    weights = module.body.head[-1].weight.detach().numpy()[0]
    return np.concatenate([cells, cells]), np.repeat([-weights, weights], 2, axis=0)


@pytest.mark.parametrize("method", ["cam", "gradcam", "gradcam++", "saliency"])
def test_maps_of_densenet_are_those_of_the_model_that_was_stored(films, models, method):
    before, after = (both_classes(model, films, method) for model in models)
    check(after.maps, 64)
    assert after.layer == (None if method == "saliency" else "features")
    scale = float(np.abs(before.maps).max())
    assert after.maps == pytest.approx(before.maps, rel=1e-3, abs=1e-4 * scale)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_maps_of_densenet_are_what_the_papers_say(films, models, pieces, method):
    cells, weights = pieces
    places = cells.shape[2] * cells.shape[3]
    assert cells.shape[1:] == (1024, 2, 2)
    # Behind an average the gradient is the same in all places.
    slope = weights / places
    if method == "gradcam++":
        g, total = slope[:, :, None, None], cells.sum(axis=(2, 3), keepdims=True)
        below = 2 * g**2 + total * g**3
        share = np.divide(g**2, below, out=np.zeros_like(below), where=below != 0)
        slope = (share * np.clip(g, 0, None)).sum(axis=(2, 3)) * places
    expected = np.clip(np.einsum("nk,nkij->nij", slope, cells), 0, None)
    by_hand = to_original(expected, (64, 64), np.tile(np.eye(2, 3), (4, 1, 1)), [(64, 64)] * 4)
    found = both_classes(models[1], films, method).maps
    assert found == pytest.approx(by_hand, rel=1e-3, abs=1e-4 * float(by_hand.max()))
    if method == "gradcam":
        cam = np.clip(both_classes(models[1], films, "cam").maps, 0, None)
        # Where no cell is below 0, the maps are the same up to the number of places.
        whole = (np.einsum("nk,nkij->nij", weights, cells) > 0).all(axis=(1, 2))
        assert whole.any()
        assert found[whole] * places == pytest.approx(cam[whole], rel=1e-3)


# One name of each family, at a size whose last map has more than one place.
FAMILIES = {
    "googlenet": (64, "inception5b"),
    "inception_v3": (75, "Mixed_6e"),
    "vit_b_16": (32, "encoder.layers.encoder_layer_11.ln_1"),
    "convnext_tiny": (64, "features"),
    "efficientnet_b0": (64, "features"),
    "mobilenet_v3_small": (64, "features"),
    "efficientnet_lite0": (64, "bn2"),
    "xception": (64, "act4"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_gradcam_of_every_family(name):
    size, layer = FAMILIES[name]
    if name in ("efficientnet_lite0", "xception"):
        pytest.importorskip("timm", reason="timm is an extra")
    X = films_of(size)
    found = both_classes(fit(name, X), X)
    assert found.layer == layer
    check(found.maps, size)


def test_gradcam_of_a_network_of_torchxrayvision(tmp_path, monkeypatch):
    models = pytest.importorskip("torchxrayvision.models", reason="an extra")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    # A file as they publish it, with random weights.
    network = models.DenseNet(num_classes=18)
    network.op_threshs = torch.ones(18)
    (tmp_path / "checkpoints").mkdir()
    url = models.model_urls["densenet121-res224-nih"]["weights_url"]
    torch.save(network, tmp_path / "checkpoints" / url.rpartition("/")[2])
    X = films_of(64)
    model = fit("densenet121", X, weights="densenet121-res224-nih")
    found = both_classes(model, X)
    assert found.layer == "features"
    check(found.maps, 64)
