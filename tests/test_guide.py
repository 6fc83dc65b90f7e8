"""What the documentation's pages show is run, word for word, each page in a folder of its own."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ["index.rst", *sorted(f"user_guide/{p.name}" for p in (DOCS / "user_guide").glob("*.rst"))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.REPORT_NDIFF


@pytest.mark.parametrize("page", PAGES)
def test_page_does_what_it_says(page, tmp_path, monkeypatch):
    if "import skops" in (DOCS / page).read_text(encoding="utf-8"):
        pytest.importorskip("skops", reason="skops is an extra; the page shows it")
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(
        str(DOCS / page), module_relative=False, optionflags=OPTIONS, encoding="utf-8"
    )
    assert result.attempted > 0
    assert result.failed == 0


def test_every_room_has_a_page_in_the_guide():
    import sklearn_cxr

    told_elsewhere = {"exceptions"}
    assert {f"user_guide/{room}.rst" for room in set(sklearn_cxr._ROOMS) - told_elsewhere} <= (
        set(PAGES)
    )
