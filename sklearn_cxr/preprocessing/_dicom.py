"""DICOM films through pydicom: modality LUT, VOI window, polarity, bit depth from the header."""

import io

import numpy as np

from sklearn_cxr.exceptions import ImageFormatError
from sklearn_cxr.utils._optional import import_optional

_OPTIONAL = (
    "VOILUTFunction",
    "VOILUTSequence",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)


def is_dicom(content):
    """Tell whether the bytes carry the prefix of a DICOM file."""
    return content[128:132] == b"DICM"


def _dataset(content, **kwargs):
    pydicom = import_optional("pydicom", extra="dicom", caller="Reading a DICOM file")
    return pydicom.dcmread(io.BytesIO(content), **kwargs)


def read_dicom_size(content):
    """Height and width from the header."""
    header = _dataset(content, stop_before_pixels=True)
    return int(header.Rows), int(header.Columns)


def read_dicom(content, max_pixels):
    """Film as it is meant to be shown, bright where the film is bright.

    Parameters
    ----------
    content : bytes
        The file.

    max_pixels : int
        Larger images are refused before they are decoded.

    Returns
    -------
    ndarray of shape (h, w), float
        Grey levels in [0, 1]: 0 and 1 are the ends of the window, or of the range that the
        header's bit depth allows where there is no window. Padding is black.
    """
    film = _dataset(content)
    _check_film(film, max_pixels)
    _settle(film)
    pixels = import_optional("pydicom.pixels", extra="dicom", caller="Reading a DICOM file")
    try:
        stored = film.pixel_array
    except (RuntimeError, NotImplementedError) as error:
        name = film.file_meta.TransferSyntaxUID.name
        raise ImageFormatError(
            f"has pixels in transfer syntax {name!r} that no installed decoder reads ({error}). "
            "Install the decoders with: pip install 'sklearn-cxr[dicom]'"
        ) from error
    rescaled = pixels.apply_modality_lut(stored, film)
    if rescaled.dtype.kind == "f" and (rescaled == np.rint(rescaled)).all():
        # A VOI table is looked up by integers.
        rescaled = rescaled.astype(np.int64)
    shown = pixels.apply_voi_lut(rescaled, film)
    low, high = _shown_range(film)
    unit = np.clip((shown.astype(np.float64) - low) / (high - low), 0, 1)
    if film.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    unit[_padding(film, stored)] = 0
    return unit


def _check_film(film, max_pixels):
    if "PixelData" not in film:
        raise ImageFormatError("is a DICOM file without pixel data.")
    if int(film.Rows) * int(film.Columns) > max_pixels:
        raise ImageFormatError(f"refused, {film.Rows}x{film.Columns} pixels exceed {max_pixels}.")
    if int(film.get("NumberOfFrames", 1) or 1) > 1:
        raise ImageFormatError(f"holds {film.NumberOfFrames} frames; one is expected.")
    photometric = film.get("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageFormatError(
            f"has photometric interpretation {photometric!r}; a radiograph is MONOCHROME1 or "
            "MONOCHROME2."
        )


def _is_empty(film, name):
    return name not in film or film[name].is_empty


def _settle(film):
    """Take elements that are empty, as anonymisers leave them, for absent; complete pairs."""
    window = ("WindowCenter", "WindowWidth")
    unusable = [name for name in _OPTIONAL if _is_empty(film, name)]
    if any(_is_empty(film, name) for name in window):
        unusable += window
    if film.get("VOILUTSequence"):
        table = film.VOILUTSequence[0]
        if _is_empty(table, "LUTDescriptor") or _is_empty(table, "LUTData"):
            # pydicom passes over such a table too; its bit depth must then not be counted on.
            unusable.append("VOILUTSequence")
    for name in unusable:
        if name in film:
            del film[name]
    slope = 1 if _is_empty(film, "RescaleSlope") else float(film.RescaleSlope)
    intercept = 0 if _is_empty(film, "RescaleIntercept") else float(film.RescaleIntercept)
    film.RescaleSlope, film.RescaleIntercept = slope, intercept


def _padding(film, stored):
    """Tell which stored pixels lie outside of the film (PS3.3, C.7.5.1.1.2)."""
    if "PixelPaddingValue" not in film:
        return np.zeros(stored.shape, dtype=bool)
    value = film.PixelPaddingValue
    low, high = sorted((value, film.get("PixelPaddingRangeLimit", value)))
    return (stored >= low) & (stored <= high)


def _shown_range(film):
    """Return the ends of the range in which modality LUT and VOI window leave the values.

    DICOM PS3.3, C.11.1 and C.11.2: a lookup table maps into its own bit depth; a window maps
    into the range of the values that it is applied to.
    """
    if film.get("VOILUTSequence"):
        return 0.0, 2.0 ** int(film.VOILUTSequence[0].LUTDescriptor[2]) - 1
    if film.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(film.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = int(film.BitsStored)
    low, high = (
        (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
        if film.PixelRepresentation == 1
        else (0.0, 2.0**bits - 1)
    )
    slope, intercept = float(film.RescaleSlope), float(film.RescaleIntercept)
    low, high = low * slope + intercept, high * slope + intercept
    # A window counts from the transformed low end even where the slope is negative.
    return (low, high) if "WindowWidth" in film else tuple(sorted((low, high)))
