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

# Prints the top-level modules that are loaded once STATEMENT has run.
LOADED = """
import json, sys
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""

# Everything but this library comes first, so that a new filter can only be its own.
FILTERS = """
import contextlib, importlib, json, sys, warnings
for name in json.loads(sys.stdin.read()):
    # Some names in sys.modules are aliases or parts of packages that are made on the way.
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
before = list(warnings.filters), warnings.showwarning
for room in {rooms!r}:
    importlib.import_module("sklearn_cxr." + room)
assert "sklearn_cxr.preprocessing" in sys.modules
print(json.dumps((list(warnings.filters), warnings.showwarning) == before))
"""

MODULES_IN_ORDER = """
import importlib, json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for room in {rooms!r}:
        importlib.import_module("sklearn_cxr." + room)
own = [str(warning) for warning in caught if "sklearn_cxr" in warning.filename]
others = [name for name in sys.modules if not name.startswith("sklearn_cxr")]
print(json.dumps([others, own]))
"""

# Forgetting the package between two rooms is the same as a new process, and faster.
ROOM_BY_ROOM = """
import importlib, json, sys
missing = {{}}
for room in {rooms!r}:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn_cxr"]:
        del sys.modules[name]
    namespace = {{}}
    exec("from sklearn_cxr." + room + " import *", namespace)
    public = sys.modules["sklearn_cxr." + room].__all__
    missing[room] = [name for name in public if name not in namespace]
print(json.dumps(missing))
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


def loaded_by(statement):
    return set(run(LOADED.format(statement=statement)))


def test_the_package_alone_loads_no_dependency():
    loaded = loaded_by("import sklearn_cxr")
    assert "sklearn_cxr" in loaded
    dependencies = {"imblearn", "joblib", "numpy", "pandas", "PIL", "scipy", "skimage", "sklearn"}
    assert not loaded & (NEVER_BY_A_ROOM | NETWORKS | dependencies)


def assert_only_by(found, dependencies):
    """What was found has to be what the dependencies load; they are asked where it is any."""
    assert not found or not found - loaded_by(dependencies)


def public_names_of(rooms):
    return "import sklearn_cxr\n" + "\n".join(
        f"[getattr(sklearn_cxr.{room}, name) for name in sklearn_cxr.{room}.__all__]"
        for room in rooms
    )


def test_the_rooms_load_no_heavy_and_no_optional_dependency():
    rooms = [room for room in sklearn_cxr._ROOMS if room not in ROOMS_OF_NETWORKS]
    loaded = loaded_by(public_names_of(rooms))
    assert {"numpy", "sklearn", "sklearn_cxr"} <= loaded
    # Older versions of scikit-image load pooch by themselves where it is installed.
    assert_only_by(loaded & (NEVER_BY_A_ROOM | NETWORKS), "import skimage")


def test_the_rooms_of_networks_load_no_optional_dependency():
    loaded = loaded_by(public_names_of(ROOMS_OF_NETWORKS))
    assert NETWORKS - {"torchvision"} <= loaded
    assert_only_by(loaded & NEVER_BY_A_ROOM, "import skimage, skorch, torch, torchvision")


def test_each_room_can_be_the_first_thing_that_is_imported():
    """A circular import shows only where nothing else of the package was imported before."""
    assert run(ROOM_BY_ROOM.format(rooms=sklearn_cxr._ROOMS)) == {
        room: [] for room in sklearn_cxr._ROOMS
    }


def test_all_and_dir_name_the_rooms():
    assert set(sklearn_cxr.__all__) == {*sklearn_cxr._ROOMS, "__version__"}
    assert set(sklearn_cxr.__all__) <= set(dir(sklearn_cxr))


def test_a_misspelt_room_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'preprocesing'"):
        sklearn_cxr.preprocesing  # noqa: B018 - the access itself raises


def test_imports_leave_the_warning_filters_alone_and_warn_of_nothing():
    rooms = sklearn_cxr._ROOMS
    others, own_warnings = run(MODULES_IN_ORDER.format(rooms=rooms))
    assert own_warnings == []
    assert "sklearn.base" in others
    assert run(FILTERS.format(rooms=rooms), stdin=json.dumps(others)) is True
