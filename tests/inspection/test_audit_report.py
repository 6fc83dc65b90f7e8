import re

import numpy as np
import pytest
from audit_common import audit, checks, rows_of, split_names

from sklearn_cxr.datasets import make_chest_xrays
from sklearn_cxr.exceptions import AuditError


@pytest.fixture(scope="module")
def films():
    return make_chest_xrays(90, image_size=112, view="mixed", random_state=0)


def test_it_gates_a_fit(films):
    images = films.images.copy()
    images[5] = 0
    with pytest.raises(AuditError, match="blank: 1 film") as caught:
        audit(films, images, raise_on="error")
    assert rows_of(caught.value.report, "blank") == [5]
    images[5] = 255 - films.images[5]
    assert "inverted" in checks(audit(films, images, raise_on="error"), "warning")
    with pytest.raises(AuditError, match="severity error or warning"):
        audit(films, images, raise_on="warning")


def test_the_report_is_one_file_that_needs_no_other(films, tmp_path):
    images = films.images.copy()
    images[5] = images[40]
    report = audit(films, images, splits=split_names(films.groups))
    page = tmp_path / "report.html"
    assert report.to_html(page) is report
    text = page.read_text(encoding="utf-8")
    assert len(text) < 5e6
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "@import" not in text and "url(" not in text and "<script" not in text
    assert "identical across patients" in text
    # A figure stands in each set of the finding, with the patient's id.
    part = text.split("identical across patients</h2>")[1].split("<h2>")[0]
    assert part.count("<figure>") == 2
    assert films.groups[5] in part and films.groups[40] in part
    notebook = report._repr_html_()
    assert "<img" not in notebook and "identical across patients" in notebook
    assert len(audit(films, images, n_thumbnails=0).thumbnails) == 0


def test_each_finding_shows_its_own_films(films):
    y = np.full(90, "common", dtype=object)
    y[:4] = ["rare a", "rare a", "rare b", "rare b"]
    report = audit(films, y=y, groups=np.arange(90))
    found = report.findings.query("check == 'few_patients'")
    assert len(found) == 2
    for number, finding in found.iterrows():
        rows = report.images.loc[report.images["finding"] == number, "row"].tolist()
        assert rows == ([0, 1] if "rare a" in finding["message"] else [2, 3])
    assert (report.images.groupby("finding")["check"].nunique() == 1).all()
    sizes = report.images.groupby("finding").size()
    assert (report.findings.loc[sizes.index, "n_images"] == sizes).all()
    sections = report._body(pictures=True).split("<h2>")
    shown = [part for part in sections if "few patients</h2>" in part]
    assert [part.count("<figure>") for part in shown] == [2, 2]


def test_what_comes_from_outside_is_escaped(films, tmp_path):
    groups = films.groups.astype(object)
    groups[:] = "<script>alert(1)</script>"
    images = films.images.copy()
    images[5] = images[40]
    audit(films, images, groups=groups).to_html(tmp_path / "report.html")
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_text_says_how_it_stands(films):
    images = films.images.copy()
    images[5] = 0
    text = str(audit(films, images))
    assert text.startswith(
        f"Audit of 90 films of {len(set(films.groups))} patients: 1 error, 0 warnings, "
    )
    assert max(map(len, text.splitlines())) <= 99
    assert text.index("ERROR     blank") < text.index("INFO ")
