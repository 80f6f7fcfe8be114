"""Image files as instruments and programs write them: each read rightly, or refused, or read with a note."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.odd_images import (
    CHANNELS,
    GREY,
    RGB,
    as_file,
    as_png16,
    as_rgb,
    as_tiff,
    linear_grey_profile,
    pages_as_tiff,
    srgb_profile,
    swapped_profile,
    with_chunk,
)
from nonet.data.images.decode import load_rgb, read_image
from nonet.errors import DataError

R16, G16 = RGB.astype(np.uint16), GREY.astype(np.uint16)
OPAQUE = np.full_like(G16, 65535)


def require(data, expected, *kinds, within=0):
    """Require pixels, and notes of these kinds and no others."""
    read = read_image(data)
    assert read.pixels.shape == expected.shape
    assert np.abs(read.pixels.astype(int) - expected).max() <= within
    assert [note.split(":")[0] for note in read.note.split("; ") if note] == list(kinds)


# Transparency.


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_of_zero_everywhere_is_ignored(kind):
    hidden = np.dstack([RGB, np.zeros_like(GREY)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    require(as_file(hidden, kind, **options), RGB, "alpha ignored")


@pytest.mark.parametrize("alpha", [np.full_like(GREY, 128), (GREY > 90).astype(np.uint8)])
def test_alpha_that_is_constant_or_a_mask_of_ones_is_ignored(alpha):
    require(as_file(np.dstack([RGB, alpha])), RGB, "alpha ignored")
    require(as_file(Image.fromarray(np.dstack([GREY, alpha]), "LA")), as_rgb(GREY), "alpha ignored")


def test_nothing_below_a_full_transparency_is_refused():
    with pytest.raises(DataError, match="transparent"):
        load_rgb(as_file(np.zeros((20, 20, 4), np.uint8)))


def test_partial_transparency_shows_white_and_is_noted():
    alpha = np.where(GREY > 90, 255, 0).astype(np.uint8)
    shown = np.where(alpha[..., None] == 255, RGB, 255)
    require(as_file(np.dstack([RGB, alpha])), shown, "transparency laid over white")
    require(as_file(np.dstack([RGB, np.full_like(GREY, 255)])), RGB)


def test_transparent_colour_of_sixteen_bit_greys_shows_white():
    shown = as_rgb(np.where(GREY == 3, 255, GREY))
    require(as_file(G16 * 257, transparency=3 * 257), shown, "transparency laid over white")


# Pages and frames.


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_several_frames_are_refused(kind):
    black = Image.new("RGB", (80, 60))
    data = as_file(black, kind, save_all=True, append_images=[Image.fromarray(RGB)])
    with pytest.raises(DataError, match=r"several frames|2 pages"):
        load_rgb(data)


def test_further_images_of_a_camera_s_jpeg_are_no_frames():
    data = as_file(Image.fromarray(as_rgb(GREY)), "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))])
    require(data, as_rgb(GREY), within=6)


def test_three_grey_pages_are_channels_where_the_file_says_so():
    channels = {"axes": "CYX"}
    require(as_tiff(CHANNELS, imagej=True, metadata=channels), RGB, "channels joined")
    require(as_tiff(CHANNELS.astype(np.uint16) * 257, imagej=True, metadata=channels), RGB, "channels joined")
    backwards = channels | {"Labels": ["Blue", "Green", "Red"]}
    require(as_tiff(CHANNELS[::-1], imagej=True, metadata=backwards), RGB, "channels joined")
    luts = [np.stack([np.arange(256, dtype=np.uint8) * (i == channel) for i in range(3)]) for channel in (1, 0, 2)]
    require(as_tiff(CHANNELS[[1, 0, 2]], imagej=True, metadata=channels | {"LUTs": luts}), RGB, "channels joined")
    named = channels | {"Channel": {"Name": ["Red", "Green", "Blue"]}}
    require(as_tiff(CHANNELS, ome=True, photometric="minisblack", metadata=named), RGB, "channels joined")
    coloured = channels | {"Channel": {"Color": [0x0000FFFF, 0x00FF00FF, 0xFF0000FF - 2**32]}}
    require(as_tiff(CHANNELS[::-1], ome=True, photometric="minisblack", metadata=coloured), RGB, "channels joined")
    pages = [(page, {"extratags": [(285, "s", 0, name, True)]}) for page, name in zip(CHANNELS, ("R", "G", "B"))]
    require(pages_as_tiff(*pages), RGB, "channels joined")


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack", "metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"ome": True, "photometric": "minisblack", "metadata": {"axes": "CYX"}},
        {
            "ome": True,
            "photometric": "minisblack",
            "metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "A", "B"]}},
        },
    ],
)
def test_three_grey_pages_that_may_be_anything_are_refused(options):
    with pytest.raises(DataError, match=r"3 pages.*RGB"):
        load_rgb(as_tiff(CHANNELS, **options))


def test_a_stack_that_only_its_description_tells_of_is_refused():
    stack = as_tiff(np.stack([GREY] * 5), photometric="minisblack", contiguous=True, truncate=True)
    with pytest.raises(DataError, match="5 images"):
        load_rgb(stack)


def test_pages_in_a_circle_are_called_damage_and_nothing_is_logged(caplog):
    entry = struct.pack("<HHII", 0x100, 3, 1, 1)
    with pytest.raises(DataError, match="circular"):
        load_rgb(b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8))
    assert not caplog.records


def test_smaller_copies_and_masks_beside_the_picture_are_passed_over():
    rgb, small = {"photometric": "rgb"}, {"photometric": "rgb", "subfiletype": 1}
    for pages in (
        [(RGB, rgb), (RGB[::2, ::2], small), (RGB[::4, ::4], small)],
        [(RGB, rgb), (RGB[::2, ::2], rgb)],
        [(RGB[::4, ::4], rgb), (RGB, rgb)],
        [(RGB[::4, ::4], small), (RGB, rgb)],
        [(RGB, rgb), (GREY > 90, {"subfiletype": 4})],
    ):
        require(pages_as_tiff(*pages), RGB, "pages ignored")
    with pytest.raises(DataError, match="2 pages"):
        load_rgb(pages_as_tiff((RGB, rgb), (RGB[:, :30], rgb)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_is_undone_whichever_library_decodes(orientation):
    tag = {"photometric": "rgb", "extratags": [(274, "H", 1, orientation, True)]}
    expected = load_rgb(as_tiff(RGB, **tag))
    assert expected.shape == ((60, 80, 3) if orientation < 5 else (80, 60, 3))
    np.testing.assert_array_equal(load_rgb(as_tiff(R16 * 257, **tag)), expected)
    np.testing.assert_array_equal(load_rgb(as_tiff(RGB.astype(np.float32) / 255, **tag)), expected)
    as_stored = read_image(as_tiff(RGB.astype(np.float32) / 255, **tag), upright=False)
    np.testing.assert_array_equal(as_stored.pixels, RGB)


# Values that do not fill their type.


@pytest.mark.parametrize(("factor", "kinds"), [(257, []), (64, ["read as 14 bits"]), (16, ["read as 12 bits"])])
def test_sixteen_bit_colours_are_read_whatever_part_of_the_range_they_use(factor, kinds):
    values = R16 * factor
    for data in (
        as_png16(values, 2),
        as_png16(np.dstack([values, OPAQUE]), 6),
        as_tiff(values, photometric="rgb"),
        as_tiff(values.astype(">u2"), photometric="rgb", byteorder=">"),
        as_tiff(values, photometric="rgb", compression="zlib", predictor=True),
        as_tiff(values, photometric="rgb", tile=(16, 16)),
        as_tiff(np.moveaxis(values, -1, 0), photometric="rgb", planarconfig="separate"),
    ):
        require(data, RGB, *kinds, within=1)


@pytest.mark.parametrize("factor", [1, 4, 16, 64, 257])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_sixteen_bit_greys_are_read_whatever_part_of_the_range_they_use(factor, kind):
    kinds = [] if factor == 257 else [f"read as {int(np.log2(factor)) + 8} bits"]
    require(as_file(G16 * factor, kind), as_rgb(GREY), *kinds, within=1)


def test_sixteen_bit_grey_with_alpha_keeps_its_low_bytes():
    values = np.dstack([G16 * 16, np.zeros_like(G16)])
    require(as_png16(values, 4), as_rgb(GREY), "read as 12 bits", "alpha ignored", within=1)


def test_bits_that_the_file_states_are_believed():
    dark = G16 * 2  # of 10 bits; up to 474
    tags = [(281, "H", 1, 4095, True)]
    assert read_image(as_tiff(dark, extratags=tags)).pixels.max() == round(474 * 255 / 4095)
    stated = {"axes": "YX", "SignificantBits": 10}
    assert read_image(as_tiff(dark, ome=True, metadata=stated)).pixels.max() == round(474 * 255 / 1023)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.uint64])
def test_other_integers_are_read_by_the_range_they_use(dtype):
    require(as_tiff(GREY.astype(dtype)), as_rgb(GREY), "read as 8 bits")
    require(as_tiff(GREY.astype(dtype) * 16), as_rgb(GREY), "read as 12 bits", within=1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_values_are_read_as_fractions_or_grey_levels(dtype):
    require(as_tiff((GREY / 255).astype(dtype)), as_rgb(GREY), "read as 0–1", within=1)
    require(as_tiff(GREY.astype(dtype)), as_rgb(GREY), "read as 0–255")
    require(as_tiff((RGB / 255).astype(dtype), photometric="rgb"), RGB, "read as 0–1", within=1)


@pytest.mark.parametrize(
    "values",
    [
        GREY.astype(np.int16) - 100,
        GREY.astype(np.int32) * 2**20,
        GREY.astype(np.uint32) * 2**24,
        (GREY.astype(np.int16) - 128).astype(np.int8),
        (GREY / 127.5 - 1).astype(np.float32),
        (GREY / 50).astype(np.float32),
        np.where(GREY == 3, np.nan, GREY).astype(np.float32),
        GREY.astype(np.complex64),
    ],
)
def test_values_without_a_known_range_are_refused(values):
    with pytest.raises(DataError, match="contains"):
        load_rgb(as_tiff(values))


def test_white_may_be_zero():
    require(as_tiff(255 - GREY, photometric="miniswhite"), as_rgb(GREY))
    for order in "<>":
        values = (65535 - G16 * 257).astype(f"{order}u2")
        require(as_tiff(values, photometric="miniswhite", byteorder=order), as_rgb(GREY))


def test_a_black_frame_stays_black_and_is_noted():
    noise = np.random.default_rng(0).normal(100, 3, (30, 30)).astype(np.uint16)
    read = read_image(as_file(noise))
    assert read.pixels.max() < 2 and read.note.startswith("nearly black")
    require(as_file(RGB // 40), RGB // 40, "nearly black")


def test_channels_without_a_meaning_are_noted_or_refused():
    unknown = {"planarconfig": "contig", "photometric": "minisblack"}
    require(as_tiff(RGB, **unknown), RGB)
    require(as_tiff(RGB[..., 1:], **unknown), as_rgb(GREY), "channels ignored")
    extra = {"photometric": "rgb", "extrasamples": ["unspecified"]}
    require(as_tiff(np.dstack([RGB, GREY]), **extra), RGB, "channels ignored")
    for values in (np.dstack([RGB, GREY]), np.dstack([RGB, GREY, GREY])):
        with pytest.raises(DataError, match="samples"):
            load_rgb(as_tiff(values, **unknown))


# Colours.


def test_colours_of_a_profile_are_converted():
    swapped = RGB[..., ::-1]
    for kind in ("PNG", "TIFF"):
        require(as_file(RGB, kind, icc_profile=swapped_profile()), swapped, "colours converted to sRGB", within=2)
    alpha = np.full_like(GREY, 255)
    data = as_file(np.dstack([RGB, alpha]), icc_profile=swapped_profile())
    require(data, swapped, "colours converted to sRGB", within=2)
    palette = Image.fromarray(RGB).quantize(64)
    expected = np.asarray(palette.convert("RGB"))[..., ::-1]
    require(as_file(palette, icc_profile=swapped_profile()), expected, "colours converted to sRGB", within=2)


def test_greys_of_a_profile_are_converted():
    light = GREY / 255
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    expected = as_rgb(np.rint(expected).astype(np.uint8))
    profile = linear_grey_profile()
    require(as_file(GREY, icc_profile=profile), expected, "colours converted to sRGB", within=2)
    require(as_file(G16 * 257, icc_profile=profile), expected, "colours converted to sRGB", within=2)


def test_a_profile_that_is_srgb_changes_no_pixel():
    require(as_file(RGB, icc_profile=srgb_profile()), RGB)


def test_a_profile_that_is_broken_or_of_another_kind_is_ignored_and_noted():
    require(as_file(RGB, icc_profile=b"x" * 200), RGB, "colour profile ignored")
    require(as_file(RGB, icc_profile=srgb_profile()[:300]), RGB, "colour profile ignored")
    require(as_file(GREY, icc_profile=srgb_profile()), as_rgb(GREY), "colour profile ignored")
    require(as_file(RGB, icc_profile=linear_grey_profile()), RGB, "colour profile ignored")


def test_colours_that_are_stated_without_a_profile_are_noted():
    # IFD0 → Exif IFD → interoperability IFD: R03, which is Adobe RGB
    entries = ((0x8769, 4, 1, 26), (0xA005, 4, 1, 44), (1, 2, 4, int.from_bytes(b"R03\0", "little")))
    ifds = b"".join(struct.pack("<HHHIII", 1, *entry, 0) for entry in entries)
    data = as_file(RGB, exif=b"Exif\0\0II*\0\x08\0\0\0" + ifds)
    require(data, RGB, "colour space ignored")
    whole = as_file(RGB)
    require(with_chunk(whole, b"gAMA", struct.pack(">I", 100_000)), RGB, "gamma ignored")
    deep = with_chunk(as_png16(R16 * 257, 2), b"gAMA", struct.pack(">I", 100_000))
    require(deep, RGB, "gamma ignored")
    adobe = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    require(with_chunk(whole, b"cHRM", adobe), RGB, "colour space ignored")
    require(with_chunk(whole, b"cICP", bytes([12, 13, 0, 1])), RGB, "colour space ignored")  # Display P3
    require(with_chunk(whole, b"cICP", bytes([1, 13, 0, 1])), RGB)  # sRGB
    avif = as_file(as_rgb(GREY), "AVIF")
    assert not read_image(avif).note
    bt2020 = avif.replace(b"colrnclx\0\x01\0\x0d", b"colrnclx\0\x09\0\x10")
    assert read_image(bt2020).note.startswith("colour space ignored")


def test_cmyk_and_ycbcr_become_rgb():
    for mode in ("CMYK", "YCbCr"):
        require(as_file(Image.fromarray(RGB).convert(mode), "TIFF"), RGB, within=3)


def test_lab_becomes_rgb():
    data = as_file(Image.new("LAB", (20, 20), (255, 128, 128)), "TIFF")  # white
    assert load_rgb(data).min() > 250


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
@pytest.mark.parametrize(("factor", "kinds"), [(257, []), (16, ["read as 12 bits"])])
def test_interlaced_sixteen_bit_png(colour_type, factor, kinds):
    opaque = np.full_like(G16, 65535)
    values = {0: G16 * factor, 2: R16 * factor}
    values |= {4: np.dstack([values[0], opaque]), 6: np.dstack([values[2], opaque])}
    expected = RGB if colour_type in (2, 6) else as_rgb(GREY)
    require(as_png16(values[colour_type], colour_type, interlaced=True), expected, *kinds, within=1)


def sensor_below(photometric, **options):
    """Return a TIFF whose page has another one below it, as raw files of cameras have."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB[::2, ::2], photometric="rgb", subifds=1, metadata=None, **options)
        writer.write(G16 if photometric == 32803 else RGB, photometric=photometric, metadata=None)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        sensor_below(32803, subfiletype=1),  # Nikon's, Sony's
        sensor_below(32803),
        as_tiff(RGB, photometric="rgb", extratags=[(50706, "B", 4, (1, 4, 0, 0), True)]),  # DNG
        as_tiff(G16, photometric="cfa"),
        b"II*\0\x10\0\0\0CR\x02\0" + as_tiff(RGB, photometric="rgb")[12:],
    ],
)
def test_raw_files_of_cameras_are_not_read_by_their_preview(data):
    with pytest.raises(DataError, match="camera's raw file"):
        load_rgb(data)


def test_a_picture_below_its_own_thumbnail_is_not_called_a_raw_file():
    with pytest.raises(DataError, match="single page"):
        load_rgb(sensor_below("rgb", subfiletype=1))


# Damage that decodes to something.


@pytest.mark.parametrize("options", [{}, {"subsampling": 0, "quality": 95}])
def test_a_part_of_a_jpeg_that_was_never_written_is_noted(options):
    whole = as_file(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8), "JPEG", **options)
    half = len(whole) // 2
    assert not read_image(whole).note
    damaged = read_image(whole[:half] + bytes(1024) + whole[half + 1024 :])
    assert damaged.note.startswith("perhaps damaged: 1,024 zero bytes")


def test_zeros_of_a_whole_jpeg_are_not_called_damage():
    even = np.full((2000, 2000, 3), 255, np.uint8)
    even[900:960, 900:980] = RGB
    for options in ({}, {"optimize": True}, {"progressive": True}):
        assert not read_image(as_file(even, "JPEG", **options)).note
    comment = as_file(RGB, "JPEG", comment=bytes(2000), quality=95)
    assert not read_image(comment).note and not read_image(comment + bytes(5000)).note


# Hardly pictures.


def test_what_is_hardly_a_picture_is_noted():
    require(as_file(np.full((20, 20, 3), 255, np.uint8)), np.full((20, 20, 3), 255), "one colour")
    require(as_file(RGB[30:31, 30:31]), RGB[30:31, 30:31], "one colour", "small")
    long = np.tile(RGB[:20], (1, 5, 1))
    require(as_file(long), long, "long and narrow")
