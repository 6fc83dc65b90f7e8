"""DICOM films written here with pydicom, against the standard's formulas worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from sklearn_cxr.exceptions import ImageFormatError
from sklearn_cxr.preprocessing import ImageReader

pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset  # noqa: E402 - after the skip
from pydicom.uid import (  # noqa: E402 - after the skip
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

FILM = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)


def film_dataset(pixels, *, bits=12, photometric="MONOCHROME2", **elements):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    film = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID = meta.MediaStorageSOPClassUID
    film.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    film.Rows, film.Columns = pixels.shape[-2:]
    film.SamplesPerPixel = 1
    film.PhotometricInterpretation = photometric
    film.BitsAllocated = pixels.dtype.itemsize * 8
    film.BitsStored, film.HighBit = bits, bits - 1
    film.PixelRepresentation = int(pixels.dtype.kind == "i")
    film.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(film, name, value)
    return film


def read(film, tmp_path, **kwargs):
    path = tmp_path / "film.dcm"
    film.save_as(path, enforce_file_format=True)
    height, width = int(film.Rows), int(film.Columns)
    return ImageReader(size=(height, width), **kwargs).fit_transform([path])[0]


def to_8_bit(unit):
    return np.rint(np.clip(unit, 0, 1) * 255)


def test_bit_depth_comes_from_the_header(tmp_path):
    out = read(film_dataset(FILM, bits=12), tmp_path)
    assert np.abs(out - to_8_bit(FILM / 4095)).max() <= 1


def test_uint16_keeps_all_4096_levels(tmp_path):
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    out = read(film_dataset(levels, bits=12), tmp_path, dtype="uint16")
    assert len(np.unique(out)) == 4096
    assert np.abs(out - levels / 4095 * 65535).max() <= 1


def test_monochrome1_is_inverted(tmp_path):
    out = read(film_dataset(FILM, photometric="MONOCHROME1"), tmp_path)
    assert np.abs(out - to_8_bit(1 - FILM / 4095)).max() <= 1


def test_linear_window(tmp_path):
    # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5), clipped.
    out = read(film_dataset(FILM, WindowCenter=2000, WindowWidth=1000), tmp_path)
    expected = (FILM - 1999.5) / 999 + 0.5
    assert np.abs(out - to_8_bit(expected)).max() <= 1


def test_first_of_several_windows_counts(tmp_path):
    film = film_dataset(FILM, WindowCenter=[2000, 100], WindowWidth=[1000, 50])
    expected = (FILM - 1999.5) / 999 + 0.5
    assert np.abs(read(film, tmp_path) - to_8_bit(expected)).max() <= 1


def test_window_applies_after_rescale_and_before_inversion(tmp_path):
    film = film_dataset(
        FILM, photometric="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-100,
        WindowCenter=4000, WindowWidth=2000,
    )  # fmt: skip
    expected = 1 - np.clip((FILM * 2.0 - 100 - 3999.5) / 1999 + 0.5, 0, 1)
    assert np.abs(read(film, tmp_path) - to_8_bit(expected)).max() <= 1


def test_rescale_without_window_spans_the_rescaled_range(tmp_path):
    out = read(film_dataset(FILM, RescaleSlope=3, RescaleIntercept=-1000), tmp_path)
    assert np.abs(out - to_8_bit(FILM / 4095)).max() <= 1


def test_signed_pixels(tmp_path):
    signed = (FILM.astype(np.int32) - 2048).astype(np.int16)
    out = read(film_dataset(signed), tmp_path)
    assert np.abs(out - to_8_bit(FILM / 4095)).max() <= 1


def test_modality_lut(tmp_path):
    stored = np.arange(16, dtype=np.uint16).reshape(4, 4)
    table = (np.arange(16, dtype=np.uint16) ** 2)[::-1].copy()
    lut = Dataset()
    lut.LUTDescriptor = [16, 0, 16]
    lut.ModalityLUTType = "US"
    lut.LUTData = table.tobytes()
    film = film_dataset(stored, bits=4, ModalityLUTSequence=[lut])
    film["ModalityLUTSequence"][0]["LUTData"].VR = "OW"
    out = read(film, tmp_path, dtype="uint16")
    np.testing.assert_array_equal(out, table[stored])


def test_voi_lut_comes_before_a_window(tmp_path):
    stored = np.arange(16, dtype=np.uint16).reshape(4, 4)
    table = np.arange(16, dtype=np.uint16)[::-1] * 100
    lut = Dataset()
    lut.LUTDescriptor = [16, 0, 12]
    lut.LUTData = table.tobytes()
    film = film_dataset(stored, bits=4, VOILUTSequence=[lut], WindowCenter=3, WindowWidth=2)
    film["VOILUTSequence"][0]["LUTData"].VR = "OW"
    out = read(film, tmp_path)
    assert np.abs(out - to_8_bit(table[stored] / 4095)).max() <= 1


@pytest.mark.parametrize("absent", ["LUTData", "LUTDescriptor"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_half_a_voi_lut_leaves_the_window(tmp_path, absent, how):
    lut = Dataset()
    lut.LUTDescriptor = [16, 0, 16]
    lut.add_new("LUTData", "OW", np.arange(16, dtype=np.uint16).tobytes())
    if how == "absent":
        del lut[absent]
    else:
        lut[absent].value = None
    film = film_dataset(FILM, VOILUTSequence=[lut], WindowCenter=2000, WindowWidth=1000)
    expected = (FILM - 1999.5) / 999 + 0.5
    assert np.abs(read(film, tmp_path) - to_8_bit(expected)).max() <= 1


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed_transfer_syntaxes(tmp_path, syntax):
    film = film_dataset(np.tile(FILM, (8, 8)))
    if syntax == RLELossless:
        film.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    else:
        pytest.importorskip("openjpeg", reason="no JPEG 2000 encoder, which only this test needs")
        film.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    out = read(film, tmp_path)
    assert np.abs(out - to_8_bit(np.tile(FILM, (8, 8)) / 4095)).max() <= 1


def test_geometry_and_area_average_hold_for_dicom(tmp_path):
    film_dataset(np.tile(FILM, (2, 4))).save_as(tmp_path / "film.dcm", enforce_file_format=True)
    reader = ImageReader(size=8).fit([tmp_path / "film.dcm"])
    np.testing.assert_allclose(reader.geometry([tmp_path / "film.dcm"])[0], [[4, 0, 0], [0, 2, 0]])
    expected = np.tile(FILM / 4095, (2, 4)).reshape(8, 2, 8, 4).mean(axis=(1, 3))
    out = reader.transform([tmp_path / "film.dcm"])[0]
    assert np.abs(out - to_8_bit(expected)).max() <= 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"Rows": 40_000, "Columns": 40_000}, "refused"),
    ],
)
def test_what_is_no_single_film_is_refused(tmp_path, change, reason):
    pixels = np.stack([FILM, FILM]) if "NumberOfFrames" in change else FILM
    film = film_dataset(pixels)
    for name, value in change.items():
        setattr(film, name, value)
    film.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    with pytest.raises(ImageFormatError, match=reason):
        ImageReader(size=8).fit([tmp_path / "film.dcm"])


def test_a_truncated_film_is_unreadable(tmp_path):
    path = tmp_path / "film.dcm"
    film_dataset(FILM).save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ImageFormatError, match=r"film\.dcm"):
        ImageReader(size=8).fit([path])


def test_same_film_as_dicom_and_as_png(tmp_path):
    deep = (FILM.astype(float) / 4095 * 65535).astype(np.uint16)
    film_dataset(deep, bits=16).save_as(tmp_path / "film.dcm", enforce_file_format=True)
    Image.fromarray(deep).save(tmp_path / "film.png")
    two = ImageReader(size=8, dtype="uint16").fit_transform(
        [tmp_path / "film.dcm", tmp_path / "film.png"]
    )
    assert np.abs(two[0].astype(int) - two[1]).max() <= 1


def test_an_empty_window_is_no_window(tmp_path):
    # A negative slope inverts the film; an empty window must not undo that.
    film = film_dataset(
        FILM, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=None, WindowWidth=None
    )
    film.VOILUTFunction = ""
    assert np.abs(read(film, tmp_path) - to_8_bit(1 - FILM / 4095)).max() <= 1


def test_half_a_window_is_no_window(tmp_path):
    assert (
        np.abs(read(film_dataset(FILM, WindowWidth=100), tmp_path) - to_8_bit(FILM / 4095)).max()
        <= 1
    )


@pytest.mark.parametrize("half", [{"RescaleIntercept": -1000}, {"RescaleSlope": 2}])
def test_half_a_rescale_is_completed(tmp_path, half):
    assert np.abs(read(film_dataset(FILM, **half), tmp_path) - to_8_bit(FILM / 4095)).max() <= 1


def test_a_negative_slope_with_a_window(tmp_path):
    film = film_dataset(
        FILM, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2000, WindowWidth=1000
    )
    expected = np.clip((4095.0 - FILM - 1999.5) / 999 + 0.5, 0, 1)
    assert np.abs(read(film, tmp_path) - to_8_bit(expected)).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(tmp_path, photometric):
    pixels = FILM.copy()
    pixels[:, :2] = 4000
    film = film_dataset(pixels, photometric=photometric)
    film.add_new("PixelPaddingValue", "US", 4000)
    out = read(film, tmp_path)
    unit = pixels / 4095 if photometric == "MONOCHROME2" else 1 - pixels / 4095
    expected = to_8_bit(np.where(pixels == 4000, 0, unit))
    assert np.abs(out - expected).max() <= 1


@pytest.mark.parametrize("limit", [None, 4020])
def test_the_limit_of_the_padding(tmp_path, limit):
    # Emptied, as anonymisers leave it, the limit says nothing: one value is padding.
    pixels = np.tile(np.array([100, 4000, 4010, 4030], dtype=np.uint16), (4, 1))
    film = film_dataset(pixels)
    film.add_new("PixelPaddingValue", "US", 4000)
    film.add_new("PixelPaddingRangeLimit", "US", limit)
    padding = (pixels >= 4000) & (pixels <= (limit or 4000))
    expected = to_8_bit(np.where(padding, 0, pixels / 4095))
    assert np.abs(read(film, tmp_path) - expected).max() <= 1
