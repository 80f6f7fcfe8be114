"""Reading images: whatever the kind, upright RGB of 8 bits comes out, or an error that names the file."""

import contextlib
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from nonet.data.images.decode import describe_image, load_rgb
from nonet.errors import DataError


def gradient(height=24, width=32):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 7, (rows + columns) * 4], axis=2).astype(np.uint8)


def test_rgb_comes_back_bit_for_bit(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    image = load_rgb(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, gradient())
    np.testing.assert_array_equal(load_rgb((tmp_path / "a.png").read_bytes()), gradient())
    np.testing.assert_array_equal(load_rgb(str(tmp_path / "a.png")), gradient())


def test_result_can_be_written_to(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    load_rgb(tmp_path / "a.png")[0, 0] = 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation):
    upright = Image.fromarray(gradient())
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.png"), gradient())


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "bmp", "webp", "gif"])
def test_every_common_format_cut_short_is_refused_wherever_it_is_cut(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format={"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))
    whole = buffer.getvalue()
    assert load_rgb(whole).shape == (40, 40, 3)
    for share in (0.02, 0.3, 0.6, 0.9):
        (tmp_path / f"cut.{kind}").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=f"cut.{kind}"):
            load_rgb(tmp_path / f"cut.{kind}")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_raise_nothing_but_data_errors():
    rng = np.random.default_rng(0)
    for kind in ("jpeg", "png", "tiff", "gif", "bmp", "webp"):
        buffer = io.BytesIO()
        Image.fromarray(gradient()).save(buffer, format=kind)
        for _ in range(60):
            damaged = bytearray(buffer.getvalue())
            for place in rng.integers(0, len(damaged), 6):
                damaged[place] = rng.integers(0, 256)
            with contextlib.suppress(DataError):
                assert load_rgb(bytes(damaged), max_pixels=1_000_000).ndim == 3


def jpeg(pixels, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format="jpeg", **options)
    return buffer.getvalue()


def pillows(data):
    """What Pillow makes of a JPEG without profile or rotation: pixels, or None where it refuses."""
    try:
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    except Exception:  # it raises almost anything
        return None


def ours(data):
    try:
        return load_rgb(data, max_pixels=1_000_000)
    except DataError:
        return None


JPEGS = [{"quality": quality, "subsampling": subsampling} for quality in (10, 75, 100) for subsampling in range(3)]
JPEGS += [{"progressive": True}, {"restart_marker_blocks": 2}, {"optimize": True}, {"mode": "L"}, {"mode": "CMYK"}]
JPEGS += [{"keep_rgb": True}, {"comment": b"a" * 600}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}]


@pytest.mark.parametrize("options", JPEGS, ids=lambda options: "-".join(options))
def test_jpeg_has_the_pixels_that_pillow_gives_it(options):
    for size in ((40, 56), (33, 47), (1, 9), (8, 1)):
        data = jpeg(np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8), **options)
        np.testing.assert_array_equal(ours(data), pillows(data))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("options", [{"quality": 90}, {"progressive": True}, {"restart_marker_blocks": 3}], ids=str)
def test_damaged_jpeg_is_read_or_refused_as_pillow_does(options):
    """Cut, with changed bits, zeros or other bytes in it: the faster decoder decides nothing."""
    rng = np.random.default_rng(1)
    whole, num_read, num_refused = jpeg(gradient(48, 64), **options), 0, 0
    for _ in range(300):
        damaged, place = bytearray(whole), int(rng.integers(2, len(whole)))
        match rng.integers(0, 4):
            case 0:
                del damaged[place:]
            case 1:
                damaged[place] ^= 1 << rng.integers(0, 8)
            case 2:
                damaged[place : place + 16] = bytes(len(damaged[place : place + 16]))
            case _:
                damaged[place:place] = rng.bytes(4)
        expected = pillows(bytes(damaged))
        if expected is not None and expected.size > 3_000_000:
            continue
        num_read, num_refused = num_read + (expected is not None), num_refused + (expected is None)
        found = ours(bytes(damaged))
        assert (found is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
    assert num_read > 20 and num_refused > 20


def test_description_is_of_the_file_as_stored(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(gradient()[..., 0]).save(path)
    facts = describe_image(path)
    assert (facts.width, facts.height, facts.mode) == (32, 24, "L")
    assert facts.num_bytes == path.stat().st_size
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.png"):
        load_rgb(tmp_path / "nowhere.png")


def test_folder_in_place_of_an_image_is_named(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        describe_image(tmp_path)
