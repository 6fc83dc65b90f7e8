import hashlib
import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from audit_common import audit, checks, rows_of
from PIL import Image

from sklearn_cxr.datasets import load_kermany, make_chest_xrays
from sklearn_cxr.inspection import audit_dataset
from sklearn_cxr.preprocessing import ImageReader


@pytest.fixture(scope="module")
def films():
    return make_chest_xrays(90, image_size=112, view="mixed", random_state=0)


@pytest.fixture(scope="module")
def folder(films, tmp_path_factory):
    """Files of which several have something the matter; their paths."""
    place = tmp_path_factory.mktemp("films")
    paths = [place / f"film{i:02d}.png" for i in range(30)]
    for path, image in zip(paths, films.images, strict=False):
        Image.fromarray(image).save(path)
    paths[4].write_bytes(paths[20].read_bytes())
    Image.fromarray(films.images[21]).save(paths[5].with_suffix(".bmp"))
    paths[5] = paths[5].with_suffix(".bmp")
    Image.fromarray(films.images[22]).save(paths[6].with_suffix(".jpeg"), quality=70)
    paths[6] = paths[6].with_suffix(".jpeg")
    paths[7].write_bytes(paths[23].read_bytes()[:900])
    paths[8].unlink()
    paths[9].write_bytes(b"")
    Image.fromarray(films.images[10]).convert("RGBA").save(paths[10])
    Image.fromarray(films.images[11].astype(np.uint16) * 257).save(paths[11])
    Image.fromarray(films.images[12]).resize((40, 40)).save(paths[12])
    return [str(path) for path in paths]


def test_faults_of_files_are_found(films, folder):
    report = audit_dataset(folder, films.target[:30], films.groups[:30])
    assert rows_of(report, "unreadable") == [7, 8, 9]
    reasons = report.images.query("check == 'unreadable'").set_index("row")["detail"]
    assert "no such file" in reasons[8] and "empty" in reasons[9]
    assert folder[8] in reasons[8]
    names = ", ".join(os.path.basename(folder[i]) for i in (7, 8, 9))
    message = report.findings.set_index("check").loc["unreadable", "message"]
    assert message == f"3 films cannot be read: {names}."
    same = report.images.query("check == 'identical_films'").set_index("row")["detail"]
    assert {4: "byte-identical file", 20: "byte-identical file"}.items() <= dict(same).items()
    assert {5: "other bytes, same pixels", 21: "other bytes, same pixels"}.items() <= dict(
        same
    ).items()
    assert {6, 22} <= set(rows_of(report, "near_identical_films"))
    assert 10 in rows_of(report, "mixed_modes")
    assert rows_of(report, "mixed_bit_depths") == [11]
    assert rows_of(report, "mixed_formats") == [5, 6]
    assert rows_of(report, "coarse") == [12]
    assert "mixed_sizes" in checks(report, "info")
    facts = report.facts
    assert facts.loc[0, ["width", "height", "bit_depth"]].tolist() == [112, 112, 8]
    assert facts.loc[11, "bit_depth"] == 16
    assert facts["mean_intensity"].isna().tolist() == [i in (7, 8, 9) for i in range(30)]
    assert {"identical_across_patients", "unreadable"} <= checks(report, "error")


def test_a_decode_store_and_threads_change_nothing(films, folder, tmp_path):
    good = folder[13:]
    given = {"y": films.target[13:30], "groups": films.groups[13:30]}
    plain = audit_dataset(good, **given)
    stored = audit_dataset(np.array(good)[:, None], **given, cache_dir=tmp_path, n_jobs=2)
    again = audit_dataset(pd.DataFrame({"path": good}), **given, cache_dir=tmp_path)
    for other in (stored, again):
        pd.testing.assert_frame_equal(plain.findings, other.findings)
        pd.testing.assert_frame_equal(plain.facts, other.facts)
    # The store of a reader of the default size is the one that was filled.
    before = sorted(path.name for path in tmp_path.rglob("*"))
    rows = ImageReader(cache_dir=tmp_path).fit_transform(good)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    pd.testing.assert_series_equal(
        audit_dataset(rows, **given).facts["contrast"], plain.facts["contrast"]
    )


def test_a_film_without_a_path_is_unreadable(films, folder):
    report = audit_dataset([*folder[13:18], None], films.target[:6], films.groups[:6])
    assert rows_of(report, "unreadable") == [5]
    assert report.images["detail"].iloc[0] == "None is not a path"


def test_a_store_keeps_apart_what_is_unreadable(films, folder, tmp_path):
    paths = [*folder, None]
    given = {"y": films.target[:31], "groups": films.groups[:31]}
    plain, stored = (audit_dataset(paths, **given, cache_dir=c) for c in (None, tmp_path))
    pd.testing.assert_frame_equal(plain.images, stored.images)
    pd.testing.assert_frame_equal(plain.facts, stored.facts)
    assert rows_of(stored, "unreadable") == [7, 8, 9, 30]


def test_headers_of_tiff_and_dicom(films, tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="the dicom extra reads DICOM")
    Image.fromarray(films.images[0]).save(tmp_path / "a.tiff")
    Image.fromarray(films.images[1]).save(tmp_path / "b.tiff", tiffinfo={262: 0})
    film = pydicom.Dataset()
    film.file_meta = pydicom.dataset.FileMetaDataset()
    film.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID
    film.Rows, film.Columns = films.images[2].shape
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.SamplesPerPixel, film.PixelRepresentation = 1, 0
    film.PhotometricInterpretation = "MONOCHROME1"
    film.PixelData = ((255 - films.images[2].astype(np.uint16)) * 16).tobytes()
    film.save_as(tmp_path / "c.dcm", enforce_file_format=True)
    report = audit_dataset(sorted(map(str, tmp_path.iterdir())))
    facts = report.facts
    assert facts["format"].tolist() == ["TIFF", "TIFF", "DICOM"]
    assert facts["bit_depth"].tolist() == [8, 8, 12]
    assert facts["photometric"].tolist()[::2] == ["normal", "inverted"]
    assert 2 in rows_of(report, "inverted_by_header")
    # The reader has minded the header.
    assert (facts["spine_contrast"] > 0)[2] and not rows_of(report, "inverted")


@pytest.mark.parametrize(
    "form",
    [
        lambda images: images.reshape(len(images), -1),
        lambda images: np.repeat(images[..., None], 3, axis=3),
        lambda images: images.astype(np.uint16) * 257,
        lambda images: images / 255,
        lambda images: images[..., None],
        lambda images: images.tolist(),
    ],
)
def test_every_form_of_the_pixels_gives_the_same(films, form):
    given = {"y": films.target[:24], "groups": films.groups[:24]}
    plain = audit_dataset(films.images[:24], **given)
    changes = {}
    images = form(films.images[:24])
    if isinstance(images, list):
        changes["value_range"] = (0, 255)
    other = audit_dataset(images, **given, **changes)
    pd.testing.assert_frame_equal(plain.findings, other.findings)
    pd.testing.assert_frame_equal(plain.facts, other.facts)


def test_rows_of_zarr_are_read_piece_by_piece(films, tmp_path, monkeypatch):
    images = films.images[:24]
    rows = zarr.open(str(tmp_path / "z"), mode="w", shape=images.shape, dtype=images.dtype)
    rows[:] = images
    expected = audit_dataset(images, films.target[:24])

    def refuse(self, *args, **kwargs):
        raise AssertionError("the whole was asked for")

    monkeypatch.setattr(zarr.Array, "__array__", refuse)
    found = audit_dataset(rows, films.target[:24])
    pd.testing.assert_frame_equal(found.findings, expected.findings)
    pd.testing.assert_frame_equal(found.facts, expected.facts)


def test_levels_are_judged_before_they_become_8_bits(films, tmp_path):
    paths = [tmp_path / f"{i:02d}.png" for i in range(24)]
    for path, image in zip(paths, films.images, strict=False):
        Image.fromarray(image.astype(np.uint16) * 257).save(path)
    Image.fromarray(films.images[3].astype(np.uint16) * 4).save(paths[3])
    Image.fromarray(films.images[4].astype(np.uint16) * 16).save(paths[4])
    Image.fromarray(np.full((112, 112), 9000, np.uint16)).save(paths[5])
    Image.fromarray(films.images[6] // 5).save(paths[6])
    for n_jobs in (None, 2):
        report = audit_dataset(list(map(str, paths)), n_jobs=n_jobs)
        assert rows_of(report, "unused_range") == [3, 4, 6]
        assert rows_of(report, "blank") == [5]
        used = report.facts["used_range"]
        assert used[3] == pytest.approx(np.ptp(films.images[3].astype(int)) * 4 / 65535)
        assert used[0] == pytest.approx(np.ptp(films.images[0].astype(int)) / 255)


def test_pixels_that_are_no_numbers_are_found(films):
    images = films.images / 255
    images[3, 0, :2] = [np.nan, np.inf]
    report = audit(films, images)
    assert rows_of(report, "not_finite") == [3]
    assert "2 pixels" in report.images.query("check == 'not_finite'")["detail"].iloc[0]
    assert checks(report, "error") == {"not_finite"}


def test_nothing_but_unreadable_files_is_a_report_too(tmp_path):
    report = audit_dataset([str(tmp_path / f"{i}.png") for i in range(3)], [0, 1, 0], [1, 2, 3])
    assert rows_of(report, "unreadable") == [0, 1, 2]
    report.to_html(tmp_path / "report.html")
    assert "unreadable" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_set_of_kermany_has_its_copies(data_root):
    found = load_kermany(data_root / "chest_xray", subset="all")
    paths = [Path(path) for path in found.images]
    assert len(paths) == 5840
    numbers = [re.search(r"person\d+|IM-\d+", path.name)[0] for path in paths]
    # Numbers were given out split by split.
    patients = [f"{path.parts[-3]} {number}" for path, number in zip(paths, numbers, strict=True)]
    report = audit_dataset(found.images, found.target, patients, n_jobs=2)
    sets = defaultdict(set)
    for row, path in enumerate(paths):
        sets[hashlib.sha256(path.read_bytes()).hexdigest()].add(row)
    expected = {frozenset(rows) for rows in sets.values() if len(rows) > 1}
    assert len(expected) == 30 and sum(map(len, expected)) == 62
    shown = report.images.query("check == 'identical_films'")
    assert {frozenset(part["row"]) for _, part in shown.groupby("set")} == expected
    assert set(shown["detail"]) == {"byte-identical file"}
    # The loader's own sets are these, too.
    loaded = found.frame["duplicate_set"]
    own = {frozenset(rows) for s, rows in loaded.groupby(loaded).groups.items() if s >= 0}
    assert own == expected
    across = report.images.query("check == 'identical_across_patients'")
    assert sorted(across["patient"]) == ["test IM-0095", "test IM-0096"]
    assert checks(report, "error") == {"identical_across_patients"}
