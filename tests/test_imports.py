"""What an import loads, and what it leaves alone; each in a process of its own."""

import json
import subprocess
import sys

import pytest

import sklearn_cxr

# Loaded at first use only: heavy, or of an extra that need not be installed.
NEVER_BY_A_ROOM = {
    "captum",
    "imagehash",
    "matplotlib",
    "onnxruntime",
    "pooch",
    "pydicom",
    "pylibjpeg",
    "skops",
    "timm",
}
# What networks are made of takes seconds to import: only their own rooms do so.
NETWORKS = {"skorch", "torch", "torchvision"}
ROOMS_OF_NETWORKS = ("feature_extraction", "neural_network")

# Importing PyTorch takes seconds, so one process answers what can be asked in one: which modules
# each group of rooms loads, in which order, with which warnings, and then room by room.
ROOMS = """
import importlib, json, sys, warnings

def loaded():
    return sorted({{name.partition(".")[0] for name in sys.modules}})

def public(room):
    module = importlib.import_module("sklearn_cxr." + room)
    for name in module.__all__:
        getattr(module, name)

answer = {{}}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for kind, rooms in {kinds!r}.items():
        for room in rooms:
            public(room)
        answer[kind] = loaded()
answer["warnings"] = [str(warning) for warning in caught if "sklearn_cxr" in warning.filename]
answer["others"] = [name for name in sys.modules if not name.startswith("sklearn_cxr")]

# Forgetting the package between two rooms is the same as a new process, and faster.
answer["missing"] = {{}}
for room in (room for rooms in {kinds!r}.values() for room in rooms):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn_cxr"]:
        del sys.modules[name]
    namespace = {{}}
    exec("from sklearn_cxr." + room + " import *", namespace)
    names = sys.modules["sklearn_cxr." + room].__all__
    answer["missing"][room] = [name for name in names if name not in namespace]
print(json.dumps(answer))
"""

# What the dependencies load by themselves; and everything but this library before its rooms, so
# that a new filter can only be its own.
DEPENDENCIES = """
import contextlib, importlib, json, sys, warnings
answer = {{}}
for kind, names in {kinds!r}.items():
    for name in names:
        importlib.import_module(name)
    answer[kind] = sorted({{name.partition(".")[0] for name in sys.modules}})
for name in json.loads(sys.stdin.read()):
    # Some names in sys.modules are aliases or parts of packages that are made on the way.
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
before = list(warnings.filters), warnings.showwarning
for room in {rooms!r}:
    importlib.import_module("sklearn_cxr." + room)
assert "sklearn_cxr.preprocessing" in sys.modules
answer["filters are the same"] = (list(warnings.filters), warnings.showwarning) == before
print(json.dumps(answer))
"""


def run(program, *, stdin=""):
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        input=stdin,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def rooms():
    kinds = {
        "plain": [room for room in sklearn_cxr._ROOMS if room not in ROOMS_OF_NETWORKS],
        "networks": list(ROOMS_OF_NETWORKS),
    }
    return run(ROOMS.format(kinds=kinds))


@pytest.fixture(scope="module")
def dependencies(rooms):
    kinds = {"plain": ["skimage"], "networks": ["skorch", "torch", "torchvision"]}
    program = DEPENDENCIES.format(kinds=kinds, rooms=sklearn_cxr._ROOMS)
    return run(program, stdin=json.dumps(rooms["others"]))


def test_the_package_alone_loads_no_dependency():
    loaded = set(run("import json, sys, sklearn_cxr; print(json.dumps(list(sys.modules)))"))
    assert "sklearn_cxr" in loaded
    names = {"imblearn", "joblib", "numpy", "pandas", "PIL", "scipy", "skimage", "sklearn"}
    assert not loaded & (NEVER_BY_A_ROOM | NETWORKS | names)


def test_the_rooms_load_no_heavy_and_no_optional_dependency(rooms, dependencies):
    loaded = set(rooms["plain"])
    assert {"numpy", "sklearn", "sklearn_cxr"} <= loaded
    # Older versions of scikit-image load pooch by themselves where it is installed.
    assert loaded & (NEVER_BY_A_ROOM | NETWORKS) <= set(dependencies["plain"])


def test_the_rooms_of_networks_load_no_optional_dependency(rooms, dependencies):
    loaded = set(rooms["networks"])
    assert NETWORKS - {"torchvision"} <= loaded
    assert loaded & NEVER_BY_A_ROOM <= set(dependencies["networks"])


def test_each_room_can_be_the_first_thing_that_is_imported(rooms):
    """A circular import shows only where nothing else of the package was imported before."""
    assert rooms["missing"] == {room: [] for room in sklearn_cxr._ROOMS}


def test_all_and_dir_name_the_rooms():
    assert set(sklearn_cxr.__all__) == {*sklearn_cxr._ROOMS, "__version__"}
    assert set(sklearn_cxr.__all__) <= set(dir(sklearn_cxr))


def test_a_misspelt_room_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'preprocesing'"):
        sklearn_cxr.preprocesing  # noqa: B018 - the access itself raises


def test_imports_leave_the_warning_filters_alone_and_warn_of_nothing(rooms, dependencies):
    assert rooms["warnings"] == []
    assert "sklearn.base" in rooms["others"]
    assert dependencies["filters are the same"] is True
