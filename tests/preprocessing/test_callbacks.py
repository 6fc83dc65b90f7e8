"""Every way to fit a transformer tells its callbacks, once."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from sklearn_cxr import preprocessing
from sklearn_cxr.decomposition import PixelPCA
from sklearn_cxr.preprocessing import LungCrop, PixelScaler

callback = pytest.importorskip("sklearn.callback", reason="callbacks come with scikit-learn 1.9")
# There are no lungs in random pixels.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_cxr.exceptions.FallbackWarning")

ROOM = [getattr(preprocessing, name) for name in preprocessing.__all__]
CLASSES = [cls for cls in ROOM if isinstance(cls, type) and issubclass(cls, BaseEstimator)]
# The reader takes paths and is tested on its own.
TRANSFORMERS = [cls for cls in CLASSES if cls.__name__ != "ImageReader"] + [PixelPCA]
METHODS = [(cls, name) for cls in TRANSFORMERS for name in ("fit", "fit_transform")]
METHODS.append((PixelScaler, "partial_fit"))


class Recorder:
    """Writes down which hooks are called, by which estimator."""

    def __init__(self):
        self.seen = []

    def setup(self, estimator, context):
        self.seen.append(("setup", type(estimator)))

    def on_fit_task_begin(self, estimator, context):
        self.seen.append((context.task_name, type(estimator)))

    def on_fit_task_end(self, estimator, context):
        self.seen.append(("end", type(estimator)))

    def teardown(self, estimator, context):
        self.seen.append(("teardown", type(estimator)))


@pytest.fixture
def films():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 9)).astype(np.uint8)


def test_the_recorder_is_a_callback():
    assert isinstance(Recorder(), callback.FitCallback)


@pytest.mark.parametrize(
    ("cls", "method"), METHODS, ids=[f"{cls.__name__}-{name}" for cls, name in METHODS]
)
def test_each_hook_is_called_once(cls, method, films):
    recorder = Recorder()
    getattr(cls().set_callbacks(recorder), method)(films)
    assert recorder.seen == [(hook, cls) for hook in ("setup", "fit", "end", "teardown")]


def test_in_a_pipeline(films):
    recorder = Recorder()
    make_pipeline(LungCrop().set_callbacks(recorder), PixelPCA(2)).fit(films)
    assert [hook for hook, _ in recorder.seen] == ["setup", "fit", "end", "teardown"]


def test_teardown_after_a_fit_that_fails(films):
    recorder = Recorder()
    with pytest.raises(ValueError, match="value_range"):
        LungCrop().set_callbacks(recorder).fit_transform(films.astype(np.int64))
    assert [hook for hook, _ in recorder.seen] == ["setup", "fit", "teardown"]
