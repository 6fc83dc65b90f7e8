import importlib.util
import threading
import warnings

import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_cxr.exceptions import DatasetWarning, FallbackWarning
from sklearn_cxr.utils._warn import warn

INSIDE = """
from sklearn_cxr.utils._warn import warn

def deep(depth, *args):
    if depth:
        return deep(depth - 1)
    warn("something happened", UserWarning)
"""


@pytest.fixture
def inside(tmp_path):
    """A module that passes for one of the library's own."""
    path = tmp_path / "inside.py"
    path.write_text(INSIDE)
    spec = importlib.util.spec_from_file_location("sklearn_cxr.inside", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("depth", [0, 1, 7])
def test_names_the_line_of_the_caller(inside, depth):
    with pytest.warns(UserWarning, match="something happened") as caught:
        inside.deep(depth)
    assert caught[0].filename == __file__


def test_skips_scikit_learn(inside):
    pipeline = make_pipeline(FunctionTransformer(lambda X: inside.deep(2) or X))
    with pytest.warns(UserWarning, match="something happened") as caught:
        pipeline.fit_transform([[1.0]])
    # The lambda is the innermost line of the user's.
    assert caught[0].filename == __file__


def test_line_and_category():
    with pytest.warns(FallbackWarning) as caught:
        warn("here", FallbackWarning)
    assert caught[0].lineno == test_line_and_category.__code__.co_firstlineno + 2


def test_repeats_are_filtered_by_the_callers_line(inside):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            inside.deep(1)
        inside.deep(1)
    assert len(caught) == 2


def test_without_any_outside_frame(inside):
    # A thread of a pool has frames of the standard library only.
    with pytest.warns(UserWarning, match="something happened") as caught:
        thread = threading.Thread(target=inside.deep, args=(1,))
        thread.start()
        thread.join()
    assert caught[0].filename == threading.__file__


def test_is_an_error_where_the_user_wants_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DatasetWarning)
        with pytest.raises(DatasetWarning, match="left out"):
            warn("left out", DatasetWarning)
