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
