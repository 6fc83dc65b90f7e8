"""From one image file to one array: formats, modes, orientation, bit depth, size."""

import dataclasses
import io
import os

import numpy as np
from PIL import Image, ImageOps

from sklearn_cxr.exceptions import ImageFormatError
from sklearn_cxr.preprocessing._dicom import is_dicom, read_dicom, read_dicom_size
from sklearn_cxr.preprocessing._resize import resample

# Part of the decode store's key: raised with every change of what a file is decoded to, so that
# rows of an earlier decoder are not taken for those of this one.
DECODER = 2
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
# Pillow's own bound: above it a file of a few kilobytes can fill the memory.
MAX_PIXELS = 89_478_485
_ORIENTATION = 0x0112
_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 262, 277
# The decoder may shrink a JPEG no further than to twice the wanted size, so that the area
# average that follows still decides the result.
_JPEG_GAP = 2


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """What decides the pixels that a file becomes; the decode store is keyed by it."""

    height: int
    width: int
    aspect: str
    color: str
    dtype: str
    fill_value: int

    @property
    def row_shape(self):
        """Shape of one decoded image."""
        sides = (self.height, self.width)
        return sides if self.color == "gray" else (*sides, 3)


def read_image(path, options):
    """Decode one file.

    Parameters
    ----------
    path : str
        The file.

    options : ReadOptions
        Size, aspect, colour and dtype of the result.

    Returns
    -------
    ndarray of shape (h, w) or (h, w, 3), uint8 or uint16
        The image.

    Raises
    ------
    ImageFormatError
        If the file is missing, empty, damaged or no image; names the file and the reason.
    """
    return decode(path, load_bytes(path), options)


def load_bytes(path):
    """Content of a file, or an ImageFormatError that names it."""
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except (OSError, ValueError) as error:
        raise file_error(path, error) from error
    if not content:
        raise ImageFormatError(f"{path}: the file is empty.")
    return content


def file_error(path, error):
    """Say in an ImageFormatError why the file system refused a file."""
    if isinstance(error, FileNotFoundError):
        where = "" if os.path.isabs(path) else f" (looked for in {os.getcwd()})"
        return ImageFormatError(f"{path}: no such file{where}.")
    if isinstance(error, IsADirectoryError):
        return ImageFormatError(f"{path}: is a folder, not an image file.")
    return ImageFormatError(f"{path!r}: cannot be read ({getattr(error, 'strerror', error)}).")


def decode(path, content, options):
    """Decode the bytes of one file; see `read_image`."""
    try:
        image = _open(content, options)
        return _place(image, options)
    except ImageFormatError as error:
        raise ImageFormatError(f"{path}: {error}") from error.__cause__
    except ImportError:
        # A missing decoder is the installation's fault, not the file's.
        raise
    # Decoders meet damaged files with errors of many types; all mean that the file is unreadable.
    except Exception as error:
        raise ImageFormatError(f"{path}: cannot be decoded ({_reason(error)}).") from error


def _reason(error):
    return " ".join(str(error).split()) or type(error).__name__


def image_size(path):
    """Height and width of a file's upright image, from its header."""
    content = load_bytes(path)
    try:
        if is_dicom(content):
            return read_dicom_size(content)
        image = _identify(content)
        # Pillow turns the size of a TIFF by itself; its tags hold the size as it is stored.
        tags = getattr(image, "tag_v2", {})
        width, height = tags.get(_WIDTH, image.width), tags.get(_LENGTH, image.height)
        return (width, height) if _is_turned(image) else (height, width)
    except ImageFormatError as error:
        raise ImageFormatError(f"{path}: {error}") from error
    except ImportError:
        raise
    except Exception as error:
        raise ImageFormatError(f"{path}: cannot be decoded ({_reason(error)}).") from error


def _identify(content):
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise ImageFormatError(
            f"is no image in a known format ({', '.join(FORMATS)}, DICOM)."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageFormatError(f"refused, {_reason(error)}") from error
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ImageFormatError(f"refused, {pixels} pixels exceed the limit of {MAX_PIXELS}.")
    if image.format in ("TIFF", "PNG") and getattr(image, "n_frames", 1) > 1:
        raise ImageFormatError(
            f"holds {image.n_frames} images; one is expected. Split the file into single images."
        )
    return image


def _is_turned(image):
    """Tell whether the EXIF orientation swaps rows and columns."""
    return image.getexif().get(_ORIENTATION, 1) >= 5


def _open(content, options):
    """Upright Pillow image in mode L or RGB, or F on a scale of 0..65535."""
    if is_dicom(content):
        return _from_unit(read_dicom(content, MAX_PIXELS))
    image = _identify(content)
    if image.format == "JPEG":
        mode = "L" if options.color == "gray" and image.mode == "RGB" else image.mode
        sides = (_JPEG_GAP * options.width, _JPEG_GAP * options.height)
        image.draft(mode, sides[::-1] if _is_turned(image) else sides)
    # Read before the image is turned: what comes back then has neither format nor tags.
    kind, tags = image.format, getattr(image, "tag_v2", {})
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image, kind, tags)
    if options.dtype == "uint16" and _loses_bits(kind, tags, content):
        raise ImageFormatError(
            f"is a 16-bit {kind} in colour or with alpha, which is decoded to 8 bits only. Save "
            "it as 16-bit grey, or read it with dtype='uint8'."
        )
    return _to_mode(image, "L" if options.color == "gray" else "RGB")


def _to_mode(image, mode):
    if image.mode == mode:
        return image
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA", "La", "RGBa", "PA"):
        # What is transparent shows the black that surrounds a film.
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    return image.convert(mode)


def _loses_bits(kind, tags, content):
    """Tell whether the file holds samples of more than the 8 bits to which Pillow cuts colour."""
    if kind == "PNG":
        # Bit depth and colour type: 16 bits in RGB, RGBA, or grey with alpha.
        return content[24:26] in (b"\x10\x02", b"\x10\x06", b"\x10\x04")
    return tags.get(_SAMPLES, 1) > 1 and int(np.max(tags.get(_BITS, 1))) > 8


def _from_deep(image, kind, tags):
    """16-bit grey, in whichever mode Pillow opened it."""
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG")
    if not sixteen:
        raise ImageFormatError(
            f"has pixels of mode {image.mode!r}, whose range is not known. Save it as 8 or 16 bit."
        )
    values = np.asarray(image).astype(np.float32)
    # A TIFF says how many of the 16 bits are used; 12 are usual for films.
    values /= 2.0 ** int(np.max(tags.get(_BITS, 16))) - 1
    return _from_unit(1 - values if tags.get(_PHOTOMETRIC) == 0 else values)


def _from_unit(values):
    """Pillow image in mode F of a grey one in [0, 1]; it stays deep until it has been resized."""
    return Image.fromarray(np.asarray(values * 65535, dtype=np.float32))


def placement(height, width, options):
    """Where an image of this size lands in the result.

    Returns
    -------
    box : tuple of float
        ``(left, top, right, bottom)`` of the part of the original that is used.

    target : tuple of int
        ``(left, top, right, bottom)`` of the part of the result that it fills.
    """
    out_h, out_w = options.height, options.width
    if options.aspect == "stretch":
        return (0, 0, width, height), (0, 0, out_w, out_h)
    if options.aspect == "crop":
        scale = min(width / out_w, height / out_h)
        # Rounding must not reach beyond the film.
        used_w, used_h = min(out_w * scale, width), min(out_h * scale, height)
        left, top = (width - used_w) / 2, (height - used_h) / 2
        return (left, top, left + used_w, top + used_h), (0, 0, out_w, out_h)
    scale = max(width / out_w, height / out_h)
    fit_w = min(out_w, max(1, round(width / scale)))
    fit_h = min(out_h, max(1, round(height / scale)))
    left, top = (out_w - fit_w) // 2, (out_h - fit_h) // 2
    return (0, 0, width, height), (left, top, left + fit_w, top + fit_h)


def _place(image, options):
    box, target = placement(image.height, image.width, options)
    left, top, right, bottom = target
    values, size = np.asarray(image), (bottom - top, right - left)
    if size != values.shape[:2] or box != (0, 0, *image.size):
        values = resample(values, size, box=box)
    # 257 is 65535 / 255.
    scale = (257 if options.dtype == "uint16" else 1) / (257 if image.mode == "F" else 1)
    if values.dtype != options.dtype:
        values = np.clip(np.rint(values * np.float32(scale)), 0, np.iinfo(options.dtype).max)
        values = values.astype(options.dtype)
    if options.color == "rgb" and values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if values.shape == options.row_shape:
        return values
    canvas = np.full(options.row_shape, options.fill_value, dtype=options.dtype)
    canvas[top:bottom, left:right] = values
    return canvas
