"""Every mode and format against an array worked out here, by other means."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from sklearn_cxr.exceptions import ImageFormatError
from sklearn_cxr.preprocessing import ImageReader, Resize
from sklearn_cxr.preprocessing._decode import ReadOptions, image_size, placement, read_image
from sklearn_cxr.preprocessing._resize import resample

H, W = 6, 4
GREY = (np.arange(H * W).reshape(H, W) * 10).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def options(height=H, width=W, aspect="stretch", color="gray", dtype="uint8", fill_value=0):
    return ReadOptions(height, width, aspect, color, dtype, fill_value)


def luma(rgb):
    """ITU-R 601, as floats."""
    return rgb[..., :3] @ np.array([0.299, 0.587, 0.114])


def png_chunk(kind, payload):
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def raw_png(array, bit_depth, color_type, claimed=None):
    """A PNG written by hand, for modes that Pillow does not write and sizes that are not true."""
    height, width = claimed or array.shape[:2]
    lines = array.reshape(len(array), -1).astype(">u2" if bit_depth == 16 else np.uint8)
    data = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(data))
        + png_chunk(b"IEND", b"")
    )


def save(tmp_path, name, image, **kwargs):
    path = tmp_path / name
    image.save(path, **kwargs)
    return str(path)


@pytest.mark.parametrize("name", ["grey.png", "grey.bmp", "grey.tif"])
def test_grey_8_bit(tmp_path, name):
    path = save(tmp_path, name, Image.fromarray(GREY))
    np.testing.assert_array_equal(read_image(path, options()), GREY)


def test_bilevel_png_becomes_black_and_white(tmp_path):
    bits = np.arange(H * W).reshape(H, W) % 3 == 0
    path = save(tmp_path, "bits.png", Image.fromarray(bits))
    np.testing.assert_array_equal(read_image(path, options()), bits * 255)


@pytest.mark.parametrize("name", ["rgb.png", "rgb.bmp", "rgb.tif"])
def test_colour_becomes_grey_by_luma(tmp_path, name):
    path = save(tmp_path, name, Image.fromarray(COLOUR))
    assert np.abs(read_image(path, options()) - luma(COLOUR)).max() <= 1


def test_colour_kept_with_rgb(tmp_path):
    path = save(tmp_path, "rgb.png", Image.fromarray(COLOUR))
    np.testing.assert_array_equal(read_image(path, options(color="rgb")), COLOUR)


def test_grey_as_rgb_is_repeated(tmp_path):
    path = save(tmp_path, "grey.png", Image.fromarray(GREY))
    out = read_image(path, options(color="rgb"))
    np.testing.assert_array_equal(out, np.repeat(GREY[..., None], 3, axis=2))


def test_palette(tmp_path):
    image = Image.fromarray((GREY // 64).astype(np.uint8), mode=None).convert("P")
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 9]], dtype=np.uint8)
    image.putpalette(colours.ravel().tolist())
    path = save(tmp_path, "palette.png", image)
    expected = luma(colours[GREY // 64].astype(float))
    assert np.abs(read_image(path, options()) - expected).max() <= 1


def test_opaque_rgba_as_in_the_nih_set(tmp_path):
    rgba = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    path = save(tmp_path, "rgba.png", Image.fromarray(rgba))
    np.testing.assert_array_equal(read_image(path, options()), GREY)


@pytest.mark.parametrize("grey", [True, False], ids=["LA", "RGBA"])
def test_transparency_shows_black(tmp_path, grey):
    alpha = np.where(np.arange(W) % 2 == 0, 255, 64)[None].repeat(H, axis=0).astype(np.uint8)
    bands = [GREY, alpha] if grey else [GREY, GREY, GREY, alpha]
    path = save(tmp_path, "alpha.png", Image.fromarray(np.dstack(bands)))
    expected = GREY * (alpha / 255)
    assert np.abs(read_image(path, options()) - expected).max() <= 1


def test_16_bit_png_keeps_its_range_in_8_bits(tmp_path):
    deep = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    path = save(tmp_path, "deep.png", Image.fromarray(deep))
    np.testing.assert_array_equal(read_image(path, options()), np.rint(deep / 257))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_uint16_keeps_a_deep_film_whole(tmp_path, name):
    deep = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    path = save(tmp_path, name, Image.fromarray(deep))
    out = read_image(path, options(dtype="uint16"))
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out, deep)


def test_uint16_of_an_8_bit_film_is_the_same_film(tmp_path):
    path = save(tmp_path, "grey.png", Image.fromarray(GREY))
    out = read_image(path, options(dtype="uint16"))
    np.testing.assert_array_equal(out, GREY.astype(int) * 257)


def test_big_endian_tiff(tmp_path):
    deep = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    path = tmp_path / "big.tif"
    entries = [
        (256, 4, W), (257, 4, H), (258, 3, 16 << 16), (259, 3, 1 << 16), (262, 3, 1 << 16),
        (273, 4, 8), (277, 3, 1 << 16), (278, 4, H), (279, 4, deep.nbytes),
    ]  # fmt: skip
    table = struct.pack(">H", len(entries))
    table += b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in entries)
    body = deep.astype(">u2").tobytes()
    path.write_bytes(struct.pack(">2sHI", b"MM", 42, 8 + len(body)) + body + table + b"\0" * 4)
    np.testing.assert_array_equal(read_image(str(path), options(dtype="uint16")), deep)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_tiff_is_inverted(tmp_path, dtype):
    top = np.iinfo(dtype).max
    film = np.linspace(0, top, H * W).reshape(H, W).astype(dtype)
    path = tmp_path / "inverted.tif"
    entries = [
        (256, 4, W), (257, 4, H), (258, 3, film.itemsize * 8), (259, 3, 1), (262, 3, 0),
        (273, 4, 8), (277, 3, 1), (278, 4, H), (279, 4, film.nbytes),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    body = (top - film).astype(film.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + table + b"\0" * 4)
    expected = np.rint(film / (top / 255))
    assert np.abs(read_image(str(path), options()).astype(float) - expected).max() <= 1


def test_12_bit_tiff_spans_its_own_range(tmp_path):
    film = np.linspace(0, 4095, H * W).reshape(H, W).astype(int)
    values = film.ravel()
    # Two pixels in three bytes.
    packed = np.column_stack(
        [values[::2] >> 4, (values[::2] & 15) << 4 | values[1::2] >> 8, values[1::2] & 255]
    )
    body = packed.astype(np.uint8).tobytes()
    entries = [
        (256, 4, W), (257, 4, H), (258, 3, 12), (259, 3, 1), (262, 3, 1),
        (273, 4, 8), (277, 3, 1), (278, 4, H), (279, 4, len(body)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    path = tmp_path / "twelve.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + table + b"\0" * 4)
    out = read_image(str(path), options(dtype="uint16"))
    assert np.abs(out - film / 4095 * 65535).max() <= 1


def grey_tiff(values, *, bits, photometric, orientation):
    """An uncompressed grey TIFF of 8, 12 (two pixels in three bytes) or 16 bits."""
    flat = values.ravel().astype(int)
    if bits == 12:
        flat = np.column_stack(
            [flat[::2] >> 4, (flat[::2] & 15) << 4 | flat[1::2] >> 8, flat[1::2] & 255]
        )
    body = flat.astype("<u2" if bits == 16 else "u1").tobytes()
    height, width = values.shape
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
        (273, 4, 8), (274, 3, orientation), (277, 3, 1), (278, 4, height), (279, 4, len(body)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    # Tables of a TIFF begin at even places.
    body += b"\0" * (len(body) % 2)
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + table + b"\0" * 4


@pytest.mark.parametrize("orientation", [0, 1, 3, 6])
@pytest.mark.parametrize(
    ("bits", "photometric"),
    # Pillow, and so the reader, refuses 12 bits in which white is zero.
    [(8, 0), (8, 1), (12, 1), (16, 0), (16, 1)],
)
def test_a_turned_tiff_keeps_depth_and_polarity(tmp_path, bits, photometric, orientation):
    top = 2**bits - 1
    # Squared, so that the film is not its own negative when it is turned.
    upright = np.rint(np.linspace(0, 1, H * W).reshape(H, W) ** 2 * top).astype(int)
    stored = {3: np.rot90(upright, 2), 6: np.rot90(upright, 1)}.get(orientation, upright)
    stored = stored if photometric == 1 else top - stored
    path = tmp_path / "turned.tif"
    path.write_bytes(
        grey_tiff(stored, bits=bits, photometric=photometric, orientation=orientation)
    )
    out = read_image(str(path), options(dtype="uint16"))
    assert np.abs(out - upright / top * 65535).max() <= 1


def test_a_turned_16_bit_png_keeps_its_depth(tmp_path):
    upright = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 3
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright, 2)))
    path = save(tmp_path, "turned.png", stored, exif=exif)
    np.testing.assert_array_equal(read_image(path, options(dtype="uint16")), upright)


def test_deep_grey_as_colour_keeps_its_levels(tmp_path):
    deep = np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16
    path = save(tmp_path, "deep.png", Image.fromarray(deep))
    out = read_image(path, options(64, 64, color="rgb", dtype="uint16"))
    np.testing.assert_array_equal(out, np.repeat(deep[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(tmp_path, mode):
    smooth = np.linspace(20, 230, 32)[None].repeat(32, axis=0).astype(np.uint8)
    image = Image.fromarray(smooth).convert("RGB").convert(mode)
    path = save(tmp_path, f"{mode}.jpg", image, quality=98)
    out = read_image(path, options(32, 32))
    assert np.abs(out.astype(float) - smooth).mean() <= 2


def test_adobe_cmyk_jpeg_is_not_inverted_twice(tmp_path):
    # Adobe writes CMYK inverted; Pillow does so too and marks the file.
    white = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    path = save(tmp_path, "white.jpg", white, quality=98)
    assert read_image(path, options(16, 16)).min() >= 250


@pytest.mark.parametrize("name", ["turned.png", "turned.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, name):
    upright = np.zeros((8, 16), dtype=np.uint8)
    upright[:4, :4] = 200
    undo = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.T, 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    path = save(tmp_path, name, stored, exif=exif)
    assert image_size(path) == (8, 16)
    np.testing.assert_array_equal(read_image(path, options(8, 16)), upright)


def test_a_turned_jpeg_is_not_shrunk_below_what_is_wanted(tmp_path):
    # Stored 64 x 1600, shown 1600 x 64, wanted 400 x 8: shrinking for 8 x 400 would blur rows.
    upright = np.repeat((np.arange(1600) // 8 % 2 * 200)[:, None], 64, axis=1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright, 1)))
    path = save(tmp_path, "turned.jpg", stored, exif=exif, quality=98)
    out = read_image(path, options(400, 8)).astype(float)
    assert np.abs(out - exact_area_average(upright.astype(float), 400, 8)).mean() <= 2


def exact_area_average(image, height, width):
    def weights(n, m):
        edges = np.linspace(0, n, m + 1)
        left, right = edges[:-1, None], edges[1:, None]
        cells = np.arange(n)
        overlap = np.minimum(right, cells + 1) - np.maximum(left, cells)
        return np.clip(overlap, 0, None) * m / n

    return weights(image.shape[0], height) @ image @ weights(image.shape[1], width).T


@pytest.mark.parametrize("bits", [8, 16])
def test_reduction_is_an_area_average(tmp_path, bits):
    rng = np.random.default_rng(0)
    rough = rng.normal(128, 40, size=(103, 97)).clip(0, 255)
    film = rough.astype(np.uint8) if bits == 8 else (rough * 257).astype(np.uint16)
    path = save(tmp_path, "film.png", Image.fromarray(film))
    exact = exact_area_average(film / (1 if bits == 8 else 257), 24, 24)
    out = read_image(path, options(24, 24)).astype(float)
    # Rounded to whole grey levels, from 257 parts of one where the film has them.
    assert np.abs(out - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("size", [(24, 24), (24, 130), (97, 20), (130, 110)])
@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_a_film_is_resized_as_resize_does_it(tmp_path, size, color):
    film = np.random.default_rng(0).integers(0, 256, (103, 97, 3), dtype=np.uint8)
    film = film if color == "rgb" else film[..., 0]
    path = save(tmp_path, "film.png", Image.fromarray(film))
    out = read_image(path, options(*size, color=color))
    np.testing.assert_array_equal(out, Resize(size).fit_transform(film[None])[0])


def test_a_part_of_pixels_counts_as_that_part(tmp_path):
    film = np.zeros((4, 12), np.uint8)
    film[:, 3] = 240
    path = save(tmp_path, "film.png", Image.fromarray(film))
    # Cropped to columns 3.5 to 8.5: half of the bright column is in.
    out = read_image(path, options(4, 5, aspect="crop"))
    assert out.mean(axis=0).tolist() == [120, 0, 0, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(450, 450), (1055, 1005)])
def test_rounding_does_not_reach_beyond_the_film(height, width):
    """The wanted side times the scale is an ulp more than these films have."""
    box, _ = placement(height, width, options(224, 224, aspect="crop"))
    assert min(box) >= 0 and box[2] <= width and box[3] <= height
    around = np.full((height + 2, width), np.nan, dtype=np.float32)
    around[1:-1] = np.random.default_rng(0).uniform(size=(height, width))
    film, beyond = around[1:-1], (-1e-13, -1e-13, width + 1e-13, height + 1e-13)
    np.testing.assert_allclose(
        resample(film, (224, 224), box=beyond), resample(film, (224, 224)), atol=1e-6
    )


def test_shrinking_inside_the_jpeg_decoder_stays_an_area_average(tmp_path):
    y, x = np.mgrid[:640, :640]
    film = (127 + 60 * np.sin(x / 23) + 60 * np.cos(y / 31)).astype(np.uint8)
    path = save(tmp_path, "film.jpg", Image.fromarray(film), quality=95)
    out = read_image(path, options(40, 40)).astype(float)
    assert np.abs(out - exact_area_average(film.astype(float), 40, 40)).mean() <= 1


def test_real_films_are_area_averages(data_root):
    for path in sorted((data_root / "nih" / "images").glob("*.png"))[:4]:
        film = np.asarray(Image.open(path).convert("RGB"))[..., 0].astype(float)
        out = read_image(str(path), options(224, 224)).astype(float)
        assert np.abs(out - exact_area_average(film, 224, 224)).max() <= 0.5 + 1e-4


def test_real_jpegs_are_nearly_area_averages(data_root):
    for path in sorted((data_root / "chest_xray" / "test" / "NORMAL").glob("*.jpeg"))[:4]:
        film = np.asarray(Image.open(path).convert("L")).astype(float)
        out = read_image(str(path), options(32, 32)).astype(float)
        assert np.abs(out - exact_area_average(film, 32, 32)).mean() <= 1


def test_pad_keeps_the_aspect_and_fills(tmp_path):
    path = save(tmp_path, "wide.png", Image.fromarray(np.full((10, 20), 100, np.uint8)))
    out = read_image(path, options(8, 8, aspect="pad", fill_value=7))
    assert (out[:2] == 7).all() and (out[6:] == 7).all() and (out[2:6] == 100).all()


def test_crop_takes_the_centre(tmp_path):
    film = np.zeros((10, 20), np.uint8)
    film[:, 5:15] = 100
    path = save(tmp_path, "wide.png", Image.fromarray(film))
    np.testing.assert_array_equal(read_image(path, options(5, 5, aspect="crop")), 100)


@pytest.mark.parametrize("aspect", ["stretch", "pad", "crop"])
def test_placement_never_leaves_the_images(aspect):
    for height, width in [(1, 1000), (1000, 1), (7, 5), (224, 224)]:
        box, target = placement(height, width, options(24, 16, aspect=aspect))
        assert 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
        assert 0 <= target[0] < target[2] <= 16 and 0 <= target[1] < target[3] <= 24


def write(name, content):
    def make(folder):
        (folder / name).write_bytes(content)

    return name, make


def multi_page(folder):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])


def float_tiff(folder):
    Image.fromarray(GREY.astype(np.float32)).save(folder / "float.tif")


def truncated(name, **kwargs):
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(buffer, **kwargs)
    return write(name, buffer.getvalue()[: len(buffer.getvalue()) // 2])


BAD = [
    (("missing.png", lambda folder: None), "no such file"),
    (write("empty.png", b""), "empty"),
    (write("text.png", b"this is no picture"), "no image in a known format"),
    (("folder.png", lambda folder: (folder / "folder.png").mkdir()), "is a folder"),
    (("pages.tif", multi_page), "2 images"),
    (("float.tif", float_tiff), "mode 'F'"),
    (truncated("half.png", format="PNG"), "decoded"),
    (truncated("half.jpg", format="JPEG"), "truncated"),
    (truncated("half.tif", format="TIFF"), "decoded"),
    (write("bomb.png", raw_png(np.zeros((1, 1)), 8, 0, claimed=(50_000, 50_000))), "refused"),
    (write("big.png", raw_png(np.zeros((1, 1)), 8, 0, claimed=(10_000, 10_000))), "refused"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), BAD, ids=[make[0] for make, _ in BAD])
def test_bad_files_are_named_with_the_reason(tmp_path, make, reason):
    name, create = make
    create(tmp_path)
    with pytest.raises(ImageFormatError, match=reason) as error:
        ImageReader(size=8).fit_transform([tmp_path / name])
    assert name in str(error.value)


def test_16_bit_colour_is_refused_where_it_would_lose_bits(tmp_path):
    deep = COLOUR.astype(np.uint16) * 257
    (tmp_path / "deep.png").write_bytes(raw_png(deep, 16, 2))
    path = str(tmp_path / "deep.png")
    assert np.abs(read_image(path, options()) - luma(COLOUR)).max() <= 1
    with pytest.raises(ImageFormatError, match="16-bit PNG in colour"):
        read_image(path, options(dtype="uint16"))


def colour_tiff(values):
    """An uncompressed TIFF of 8- or 16-bit RGB."""
    height, width = values.shape[:2]
    body = values.astype(values.dtype.newbyteorder("<")).tobytes()
    depths = struct.pack("<3H", *[values.dtype.itemsize * 8] * 3)
    at_table = 8 + len(body) + len(depths)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8 + len(body)), (259, 3, 1, 1),
        (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height),
        (279, 4, 1, len(body)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return struct.pack("<2sHI", b"II", 42, at_table) + body + depths + table + b"\0" * 4


def test_16_bit_colour_tiff_is_refused_where_it_would_lose_bits(tmp_path):
    path = tmp_path / "deep.tif"
    path.write_bytes(colour_tiff(COLOUR.astype(np.uint16) * 257))
    np.testing.assert_array_equal(read_image(str(path), options(color="rgb")), COLOUR)
    with pytest.raises(ImageFormatError, match=r"deep\.tif: is a 16-bit TIFF in colour"):
        read_image(str(path), options(color="rgb", dtype="uint16"))
    path.write_bytes(colour_tiff(COLOUR))
    out = read_image(str(path), options(color="rgb", dtype="uint16"))
    np.testing.assert_array_equal(out, COLOUR.astype(int) * 257)


def test_pixels_are_not_taken_for_the_header_of_a_png(tmp_path):
    # At bytes 24 and 25, where a PNG says "16 bit, RGB", this TIFF has pixels.
    film = GREY.copy()
    film.ravel()[16:18] = (16, 2)
    content = grey_tiff(film, bits=8, photometric=1, orientation=1)
    assert content[24:26] == b"\x10\x02"
    path = tmp_path / "grey.tif"
    path.write_bytes(content)
    out = read_image(str(path), options(dtype="uint16"))
    np.testing.assert_array_equal(out, film.astype(int) * 257)


def test_colour_profiles_do_not_get_in_the_way(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = save(tmp_path, "profile.png", Image.fromarray(GREY), icc_profile=profile)
    np.testing.assert_array_equal(read_image(path, options()), GREY)
