"""Every public docstring is complete, well formed, and tells the defaults of the signature."""

import ast
import importlib
import inspect
import re

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import ERROR_MSGS, validate

import sklearn_cxr

# What numpydoc finds is an error here, but for these.
NOT_CHECKED = {
    "GL01": "the summary starts beside the opening quotes (PEP 257), not in the line below",
    "ES01": "one sentence can say all there is to say",
    "SA01": "not everything has a relative worth a visit",
    "EX01": "methods are shown in the example of their class; classes and functions: see below",
    "RT02": "the numpydoc guide allows a name for a single returned value",
}
CHECKED = sorted(set(ERROR_MSGS) - set(NOT_CHECKED))

# Raised and caught, never called by a user: their summary is all there is to say.
NO_EXAMPLE_NEEDED = "exceptions"


def _public_objects():
    for room in sklearn_cxr._ROOMS:
        module = importlib.import_module(f"sklearn_cxr.{room}")
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def _own_methods(cls):
    """Public methods and properties that this library defines, not scikit-learn."""
    for name in dir(cls):
        if name.startswith("_"):
            continue
        definition = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
        function = definition.fget if isinstance(definition, property) else getattr(cls, name)
        module = getattr(function, "__module__", None) or ""
        if inspect.isroutine(function) and module.startswith("sklearn_cxr."):
            yield name, function


OBJECTS = dict(_public_objects())
METHODS = {
    f"{path}.{name}": function
    for path, value in OBJECTS.items()
    if isinstance(value, type)
    for name, function in _own_methods(value)
}
DEFAULT = re.compile(r"(?:^|,\s*)default=(.+)$", re.DOTALL)


def documented_defaults(text):
    """Type text of every documented parameter, by name."""
    return {
        name.lstrip("*"): parameter.type
        for parameter in NumpyDocString(inspect.cleandoc(text))["Parameters"]
        for name in re.split(r",\s*", parameter.name)
    }


def wrong_defaults(function, text):
    """Parameters whose documented default is not the signature's, and what is wrong."""
    wrong = {}
    described = documented_defaults(text)
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        kind = described.get(name, "")
        found = DEFAULT.search(kind)
        if parameter.default is parameter.empty:
            if found:
                wrong[name] = f"has no default, documented {found[1]}"
        elif found is None:
            # "y : None, ignored" is scikit-learn's way to say that only None makes sense.
            if not (kind == "None" and parameter.default is None):
                wrong[name] = f"default {parameter.default!r} is not documented"
        elif repr(ast.literal_eval(found[1])) != repr(parameter.default):
            wrong[name] = f"documented {found[1]}, signature {parameter.default!r}"
    return wrong


@pytest.mark.parametrize("path", [*OBJECTS, *METHODS])
def test_numpydoc_finds_no_error(path):
    assert [e for e in validate(path)["errors"] if e[0] in CHECKED] == []


@pytest.mark.parametrize("path", [*OBJECTS, *METHODS])
def test_defaults_are_those_of_the_signature(path):
    value = {**OBJECTS, **METHODS}[path]
    if isinstance(value, type) and issubclass(value, Exception):
        assert "__init__" not in vars(value)
        return
    assert wrong_defaults(value, value.__doc__) == {}


@pytest.mark.parametrize("path", OBJECTS)
def test_classes_and_functions_have_an_example(path):
    if path.split(".")[1] == NO_EXAMPLE_NEEDED:
        assert issubclass(OBJECTS[path], Exception)
        return
    example = "\n".join(NumpyDocString(inspect.getdoc(OBJECTS[path]))["Examples"])
    name = path.rpartition(".")[2]
    assert f">>> from {path.rpartition('.')[0]} import " in example
    assert name in example


@pytest.mark.parametrize("room", sklearn_cxr._ROOMS)
def test_rooms_are_described_and_name_what_is_public(room):
    module = importlib.import_module(f"sklearn_cxr.{room}")
    assert re.match(r"\S.*\.$", module.__doc__.splitlines()[0])
    assert sorted(set(module.__all__)) == sorted(module.__all__)


def test_the_public_names_are_met_here():
    assert {"sklearn_cxr.datasets.make_chest_xrays", "sklearn_cxr.preprocessing.ImageReader"} <= (
        set(OBJECTS)
    )
    # Inherited from a private base of ours, behind a property, and behind available_if.
    assert {
        "sklearn_cxr.preprocessing.Resize.transform",
        "sklearn_cxr.imbalance.ResampledClassifier.classes_",
        "sklearn_cxr.imbalance.ResampledClassifier.predict_proba",
    } <= set(METHODS)
    assert not [name for name in METHODS if name.endswith((".set_params", ".set_output"))]


class TestTheDefaultCheckItself:
    @staticmethod
    def wrong(type_text, default):
        def function(size=default):
            return size

        doc = f"Do it.\n\nParameters\n----------\nsize : {type_text}\n    A size.\n"
        return wrong_defaults(function, doc)

    def test_equal_defaults_pass(self):
        assert self.wrong("int or None, default=None", None) == {}
        assert self.wrong('{"a", "b"}, default="a"', "a") == {}
        assert self.wrong("tuple, default=(0.1, 1.0)", (0.1, 1.0)) == {}
        assert self.wrong("float, default=1e-4", 0.0001) == {}

    def test_other_defaults_are_found(self):
        assert set(self.wrong("int, default=3", 4)) == {"size"}
        assert set(self.wrong("int, default=1", True)) == {"size"}
        assert set(self.wrong("float, default=1", 1.0)) == {"size"}
        assert set(self.wrong("int", 4)) == {"size"}
        assert set(self.wrong("int, default=4", inspect.Parameter.empty)) == {"size"}

    def test_a_documented_default_that_is_none_is_found(self):
        def function(size):
            return size

        doc = "Do it.\n\nParameters\n----------\nsize : int, default=4\n    A size.\n"
        assert set(wrong_defaults(function, doc)) == {"size"}
