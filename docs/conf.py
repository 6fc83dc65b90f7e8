"""Sphinx configuration. Build: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``.

Nothing is fetched: there is no intersphinx, and the pages of the API reference are written here
from the public names, so that none can be missing.
"""

import importlib
import inspect
from pathlib import Path

import sklearn_cxr

project = "sklearn-cxr"
author = "The sklearn-cxr developers"
copyright = author
version = release = sklearn_cxr.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]

autosummary_generate = False  # `write_api_pages` below does it
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
# Methods stand below their class, one after the other, not in a table of their own.
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"[/\\]plot_[^/\\]*\.py$",
    "ignore_pattern": r"(^|[/\\])(?!plot_)[^/\\]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("sklearn_cxr",),
    "backreferences_dir": "api/generated/backreferences",
    "reference_url": {"sklearn_cxr": None},
    "remove_config_comments": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "matplotlib_animations": False,
    "show_signature": False,
    # Tables and estimators show themselves; "<Legend object at 0x...>" tells nobody anything.
    "capture_repr": ("_repr_html_",),
}

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn-cxr {release}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "install": []}

DOCS = Path(__file__).parent


def _heading(text, line):
    return f"{text}\n{line * len(text)}\n\n"


def _split_methods(cls):
    """Public methods: those of this library, and those that scikit-learn gives it."""
    own, inherited = [], []
    for name, _ in inspect.getmembers(cls, inspect.isroutine):
        if name.startswith("_"):
            continue
        definer = next(base for base in cls.__mro__ if name in vars(base))
        ours = definer.__module__.startswith("sklearn_cxr.")
        # scikit-learn writes set_<method>_request into our classes.
        ours = ours and not name.endswith("_request")
        (own if ours else inherited).append(name)
    return own, inherited


def _class_page(name, cls):
    own, inherited = _split_methods(cls)
    text = f".. autoclass:: {name}\n"
    # What an exception inherits is Python's.
    if not issubclass(cls, Exception):
        text += f"   :members: {', '.join(own)}\n" if own else ""
        if inherited:
            names = ", ".join(f"``{method}``" for method in inherited)
            text += f"\n.. rubric:: Also has, from scikit-learn\n\n{names}\n"
    return text


def _object_page(room, name, value):
    path = f"{room}.{name}"
    page = _heading(name, "=") + f".. currentmodule:: {room}\n\n"
    page += _class_page(name, value) if inspect.isclass(value) else f".. autofunction:: {name}\n"
    page += f"\n.. minigallery:: {path}\n   :add-heading: Examples that use it\n"
    return page


def _room_page(module):
    page = _heading(module.__name__, "=")
    page += f".. automodule:: {module.__name__}\n\n.. currentmodule:: {module.__name__}\n\n"
    page += ".. autosummary::\n\n" + "".join(f"   {name}\n" for name in module.__all__)
    page += "\n.. toctree::\n   :hidden:\n\n"
    return page + "".join(f"   ../{module.__name__}.{name}\n" for name in module.__all__)


def write_api_pages(app):
    """Write a page for every room and every public name of it; remove what is gone."""
    folder = DOCS / "api" / "generated"
    pages = {}
    for room in sklearn_cxr._ROOMS:
        module = importlib.import_module(f"sklearn_cxr.{room}")
        pages[f"rooms/{room}.rst"] = _room_page(module)
        for name in module.__all__:
            page = _object_page(module.__name__, name, getattr(module, name))
            pages[f"{module.__name__}.{name}.rst"] = page
    (folder / "rooms").mkdir(parents=True, exist_ok=True)
    for path in folder.rglob("*.rst"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    for path, page in pages.items():
        file = folder / path
        # A page that has not changed keeps its time, so that it is not built again.
        if not file.exists() or file.read_text(encoding="utf-8") != page:
            file.write_text(page, encoding="utf-8")


def setup(app):
    """Write the pages before Sphinx looks which there are."""
    app.connect("builder-inited", write_api_pages, priority=100)
