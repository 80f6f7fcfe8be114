"""Prepared images: the same from the cache as without it, done once, resumed after a kill, found by content."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from helpers.processes import kill_at_work
from nonet.data.images.decode import load_rgb, read_image
from nonet.data.preprocess import cache, crops
from nonet.data.preprocess.cache import CHUNK_SIZE, image_checksums, prepare_images
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import crop_centre, prepare_crops
from nonet.data.preprocess.denoise import denoise, estimate_sigma
from nonet.data.preprocess.stain import normalise_colours
from nonet.errors import DataError
from nonet.recipe import Denoise

ON, OFF = Denoise(), Denoise(enabled=False)


def write_images(folder, count, size=(24, 20)):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(count)
    paths = [folder / f"{i:04d}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)).save(path)
    return paths, [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", 10)


def load_prepared(image, size_px, settings):
    return prepare_crops(image, [Crop(size_px)], settings)[Crop(size_px)]


def prepare_all(images, tmp_path, sizes_px, **changes):
    crops = [Crop(size) for size in sizes_px]
    options = {"crops": crops, "denoise": OFF, "cache_dir": tmp_path / "cache"} | changes
    return {crop.size_px: prepared for crop, prepared in prepare_images(*images, **options).items()}


def prepare(images, tmp_path, size_px=16, **changes):
    return prepare_all(images, tmp_path, [size_px], **changes)[size_px]


def test_square_of_the_denoised_image(images):
    path = images[0][0]
    expected = Image.fromarray(denoise(load_rgb(path), ON)).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(load_prepared(path, 16, ON), np.asarray(expected))
    both = prepare_crops(path, [Crop(16), Crop(12)], ON)
    assert {crop.size_px: image.shape for crop, image in both.items()} == {16: (16, 16, 3), 12: (12, 12, 3)}
    np.testing.assert_array_equal(both[Crop(16)], load_prepared(load_rgb(path), 16, ON))


def test_the_centre_is_cut_out_of_the_denoised_frame(images):
    path = images[0][0]
    frame = denoise(load_rgb(path), ON)  # 24 wide, 20 high
    np.testing.assert_array_equal(crop_centre(frame, 0.5), frame[5:15, 7:17])
    assert crop_centre(frame, 1) is frame
    expected = Image.fromarray(frame[5:15, 7:17]).resize((16, 16), Image.Resampling.BICUBIC)
    centre = Crop(16, 0.5)
    np.testing.assert_array_equal(prepare_crops(path, [centre], ON)[centre], np.asarray(expected))


def test_crops_of_one_size_have_caches_of_their_own(images, tmp_path):
    crops = [Crop(16, 0.5), Crop(16), Crop(16, 0.25)]
    for crop, prepared in prepare_images(*images, crops=crops, denoise=OFF, cache_dir=tmp_path / "cache").items():
        np.testing.assert_array_equal(prepared[2], prepare_crops(images[0][2], [crop], OFF)[crop])
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_colours_are_brought_to_the_reference_after_denoising(images):
    path = images[0][0]
    plain, alike = load_prepared(path, 16, ON), load_prepared(path, 16, Denoise(colours="reinhard"))
    assert not np.array_equal(plain, alike)
    expected = Image.fromarray(normalise_colours(denoise(load_rgb(path), ON))).resize(
        (16, 16), Image.Resampling.BICUBIC
    )
    np.testing.assert_array_equal(alike, np.asarray(expected))


@pytest.mark.parametrize("settings", [ON, OFF, Denoise(enabled=False, colours="reinhard")])
def test_cached_is_the_same_as_freshly_prepared(images, tmp_path, settings):
    prepared = prepare(images, tmp_path, denoise=settings)
    assert len(prepared) == 10 and prepared.shape == (10, 16, 16, 3)
    for i, path in enumerate(images[0]):
        np.testing.assert_array_equal(prepared[i], load_prepared(path, 16, settings))
    np.testing.assert_array_equal(prepared[[3, 1]], np.stack([prepared[3], prepared[1]]))
    assert prepared[:].dtype == np.uint8


def test_second_call_reads_no_image(images, tmp_path):
    before = prepare(images, tmp_path)[:]
    for path in images[0]:
        path.unlink()
    np.testing.assert_array_equal(prepare(images, tmp_path)[:], before)


def test_cache_is_found_by_content_whatever_the_order(images, tmp_path):
    first = prepare(images, tmp_path)[:]
    again = prepare((images[0][::-1], images[1][::-1]), tmp_path)
    np.testing.assert_array_equal(again[:], first[::-1])
    twice = prepare((images[0][:2] * 2, images[1][:2] * 2), tmp_path)
    np.testing.assert_array_equal(twice[:], first[[0, 1, 0, 1]])


def test_sizes_and_settings_have_caches_of_their_own(images, tmp_path):
    plain = prepare(images, tmp_path)
    smooth = prepare(images, tmp_path, denoise=ON)
    stronger = prepare(images, tmp_path, denoise=Denoise(strength=2.0))
    assert (plain[:] != smooth[:]).any() and (smooth[:] != stronger[:]).any()
    assert prepare(images, tmp_path, size_px=8).shape == (10, 8, 8, 3)
    assert len({plain.file, smooth.file, stronger.file}) == 3


def test_sizes_made_together_are_those_made_alone_and_each_image_is_read_once(images, tmp_path, monkeypatch):
    alone = {size: prepare(images, tmp_path, size, denoise=ON, cache_dir=tmp_path / "alone") for size in (8, 16)}
    reads = []
    monkeypatch.setattr(crops, "read_image", lambda data, name: reads.append(1) or read_image(data))
    together = prepare_all(images, tmp_path, [16, 8], denoise=ON)
    assert len(reads) == 10
    assert set(together) == {8, 16}
    for size, prepared in together.items():
        np.testing.assert_array_equal(prepared[:], alone[size][:])
        np.testing.assert_array_equal(prepared.sigmas, alone[size].sigmas)


@pytest.mark.parametrize("behind", [8, 16])
def test_a_size_that_is_there_is_not_made_again(images, tmp_path, behind):
    other = 24 - behind
    full = prepare(images, tmp_path, other)
    prepare((images[0][:6], images[1][:6]), tmp_path, behind)
    written, expected = full.file.stat().st_size, load_prepared(images[0][9], behind, OFF)
    for path in images[0][:6]:
        path.unlink()  # no longer needed, whichever size is behind
    both = prepare_all(images, tmp_path, [8, 16])
    assert full.file.stat().st_size == written
    np.testing.assert_array_equal(both[other][:], full[:])
    np.testing.assert_array_equal(both[behind][9], expected)


def test_killed_between_two_sizes_only_the_one_behind_is_made(images, tmp_path, monkeypatch):
    real = cache.Cache.append

    def killed_at_the_second(cache, prepared):
        if cache.crop.size_px == 16:
            raise KeyboardInterrupt
        real(cache, prepared)

    with monkeypatch.context() as patch:
        patch.setattr(cache.Cache, "append", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            prepare_all(images, tmp_path, [8, 16])
    (small,) = tmp_path.glob("cache/8px-*/pixels.u8")
    before = small.stat().st_size
    assert before == 10 * 8 * 8 * 3
    both = prepare_all(images, tmp_path, [8, 16])
    assert small.stat().st_size == before
    for size, prepared in both.items():
        np.testing.assert_array_equal(prepared[3], load_prepared(images[0][3], size, OFF))


def test_sigmas_are_kept(images, tmp_path):
    expected = [estimate_sigma(load_rgb(path)) for path in images[0]]
    np.testing.assert_allclose(prepare(images, tmp_path, denoise=ON).sigmas, expected, rtol=1e-6)
    assert np.isnan(prepare(images, tmp_path).sigmas).all()


def test_killed_call_resumes_where_it_was(tmp_path, monkeypatch):
    images = write_images(tmp_path / "images", 2 * CHUNK_SIZE + 5)
    real = cache._prepare

    def killed_in_the_third(settings, job):
        if job.path == images[0][2 * CHUNK_SIZE]:
            raise KeyboardInterrupt
        return real(settings, job)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_prepare", killed_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            prepare(images, tmp_path)
    for path in images[0][: 2 * CHUNK_SIZE]:
        path.unlink()  # no longer needed
    prepared = prepare(images, tmp_path)
    assert len(prepared) == 2 * CHUNK_SIZE + 5
    np.testing.assert_array_equal(prepared[-1], load_prepared(images[0][-1], 16, OFF))


@pytest.mark.parametrize("name", ["pixels.u8", "sigma.f32", "sha256.txt", "sums.u64", "facts.u64"])
def test_half_written_file_is_cut_back_to_what_is_whole(images, tmp_path, name):
    whole = prepare(images, tmp_path)
    expected, file = whole[:], whole.file.with_name(name)
    with file.open("rb+") as opened:
        opened.truncate(file.stat().st_size * 2 // 3 + 1)
    np.testing.assert_array_equal(prepare(images, tmp_path)[:], expected)


def test_several_threads_give_the_same(tmp_path, monkeypatch):
    images = write_images(tmp_path / "images", 20)
    monkeypatch.setattr(cache, "CHUNK_SIZE", 3)
    many = prepare(images, tmp_path, num_workers=4, denoise=ON)
    one = prepare(images, tmp_path, num_workers=1, denoise=ON, cache_dir=tmp_path / "other")
    np.testing.assert_array_equal(many[:], one[:])


@pytest.mark.kill
def test_a_killed_call_resumes(tmp_path):
    images = write_images(tmp_path / "images", 400)
    script = tmp_path / "script.py"
    script.write_text(
        "import hashlib, pathlib\n"
        "import nonet.data.preprocess.cache as prepare\n"
        "from nonet.recipe import Denoise\n"
        "if __name__ == '__main__':\n"
        "    prepare.CHUNK_SIZE = 2\n"
        f"    paths = sorted(pathlib.Path({str(tmp_path / 'images')!r}).iterdir())\n"
        "    names = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]\n"
        f"    cache = {str(tmp_path / 'cache')!r}\n"
        "    crops = [prepare.Crop(256), prepare.Crop(64)]\n"
        "    prepare.prepare_images(paths, names, crops=crops, denoise=Denoise(), cache_dir=cache, num_workers=2)\n"
    )

    def both_begun():
        return sum(file.stat().st_size > 0 for file in tmp_path.glob("cache/*/sha256.txt")) == 2

    kill_at_work(script, both_begun)
    done = min(len(file.read_text().split()) for file in tmp_path.glob("cache/*/sha256.txt"))
    for path in images[0][: min(done, 399)]:
        path.unlink()  # no longer needed
    for size, prepared in prepare_all(images, tmp_path, [64, 256], denoise=ON, num_workers=1).items():
        np.testing.assert_array_equal(prepared[-1], load_prepared(images[0][-1], size, ON))


@pytest.mark.slow
def test_a_script_without_main_guard_prepares_but_not_in_the_process_that_another_call_starts(tmp_path):
    """Such a process runs the script again, up to here, and would wait forever for the lock that its parent holds."""
    write_images(tmp_path / "images", 8)
    script = tmp_path / "script.py"
    script.write_text(
        "import hashlib, pathlib\n"
        "import nonet.data.preprocess.cache as prepare\n"
        "from nonet.recipe import Denoise\n"
        f"paths = sorted(pathlib.Path({str(tmp_path / 'images')!r}).iterdir())\n"
        "names = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]\n"
        f"cache = {str(tmp_path / 'cache')!r}\n"
        "options = dict(crops=[prepare.Crop(8)], denoise=Denoise(), cache_dir=cache, num_workers=2)\n"
        "print(prepare.prepare_images(paths, names, **options)[prepare.Crop(8)].shape, flush=True)\n"
        "pool = prepare.worker_pool(1)\n"
        "pool.submit(abs, 1).result()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240)
    assert "(8, 8, 8, 3)" in done.stdout
    assert done.returncode != 0
    assert "DataError: " in done.stderr
    assert "if __name__" in done.stderr


@pytest.mark.slow
def test_numba_is_imported_only_where_it_denoises(tmp_path):
    """Neither in the process of the call nor in workers; nor pandas, which workers do not need."""
    write_images(tmp_path / "images", 2)
    script = tmp_path / "script.py"
    script.write_text(
        "import hashlib, pathlib, sys\n"
        "from nonet.data.preprocess.cache import Crop, prepare_images, worker_pool\n"
        "from nonet.inference.prepared_input import ImageTask, prepare_or_error\n"
        "from nonet.recipe import Denoise\n"
        "def has(name):\n"
        "    return name in sys.modules\n"
        "if __name__ == '__main__':\n"
        f"    paths = sorted(pathlib.Path({str(tmp_path / 'images')!r}).iterdir())\n"
        "    names = [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]\n"
        "    for off in (True, False):\n"
        "        denoise, crops = Denoise(enabled=not off), [Crop(8)]\n"
        f"        prepare_images(paths, names, crops=crops, denoise=denoise, cache_dir={str(tmp_path / 'cache')!r})\n"
        "        with worker_pool(1, denoise) as pool:\n"
        "            task = ImageTask(paths[0], 'image', crops, denoise)\n"
        "            read = pool.submit(prepare_or_error, task).result()\n"
        "            assert read.crops[Crop(8)].shape == (8, 8, 3)\n"
        "            names_there = ('numba', 'pandas')\n"
        "            print(has('numba'), *[pool.submit(has, name).result() for name in names_there])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.splitlines() == ["False False False", "True True False"]


def zero_a_row(content, row_size, row):
    return content[: row * row_size] + bytes(row_size) + content[(row + 1) * row_size :]


def swap_rows(content, row_size, row):
    first, second = content[row * row_size : (row + 1) * row_size], content[(row + 1) * row_size :][:row_size]
    return content[: row * row_size] + second + first + content[(row + 2) * row_size :]


def flip_a_bit(content, row_size, row):
    place = row * row_size + row_size // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("shape", [(4, 4, 3), (5, 5, 3), (1, 1, 3)])
def test_sums_are_of_words_and_any_changed_bit_changes_them(shape):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    sums = image_checksums(images)
    for image, total in zip(images, sums):
        content = image.tobytes()
        words = [content[i : i + 8] for i in range(0, len(content) // 8 * 8, 8)]
        words += [bytes([byte]) for byte in content[len(content) // 8 * 8 :]]
        assert int(total) == sum(int.from_bytes(word, "little") for word in words) % 2**64
    for bit in range(8 * images[0].size):
        changed = images[0].copy().reshape(-1)
        changed[bit // 8] ^= 1 << (bit % 8)
        assert image_checksums(changed.reshape(1, *shape))[0] != sums[0]


@pytest.mark.parametrize("damage", [zero_a_row, swap_rows, flip_a_bit])
@pytest.mark.parametrize(
    ("name", "row_size"),
    [("pixels.u8", 16 * 16 * 3), ("sigma.f32", 4), ("sha256.txt", 65), ("sums.u64", 8), ("facts.u64", 8)],
)
def test_damaged_rows_of_the_cache_are_prepared_again(images, tmp_path, name, row_size, damage):
    whole = prepare(images, tmp_path, denoise=ON)
    expected, sigmas, file = whole[:], whole.sigmas, whole.file.with_name(name)
    file.write_bytes(damage(file.read_bytes(), row_size, 3))
    for path in images[0][:3] + images[0][6:]:
        path.unlink()  # of whole rows nothing is needed any more
    for _ in range(2):
        healed = prepare(images, tmp_path, denoise=ON)
        np.testing.assert_array_equal(healed[:], expected)
        np.testing.assert_array_equal(healed.sigmas, sigmas)


def test_a_row_damaged_while_training_is_not_trained_on(images, tmp_path):
    prepared = prepare(images, tmp_path)
    content = bytearray(prepared.file.read_bytes())
    content[4 * 768] ^= 128
    prepared.file.write_bytes(content)
    assert prepared[[0, 1, 5]].any()
    for index in (4, [2, 4], slice(3, 6)):
        with pytest.raises(DataError, match=r"pixels\.u8.* image 4"):
            prepared[index]


def test_changed_image_is_not_cached_under_a_wrong_name(images, tmp_path):
    Image.new("RGB", (24, 20), "red").save(images[0][4])
    with pytest.raises(DataError, match=r"0004\.png (.|\n)*nonet data check"):
        prepare(images, tmp_path)


def test_missing_image_is_named(images, tmp_path):
    images[0][4].unlink()
    with pytest.raises(DataError, match=r"0004\.png"):
        prepare(images, tmp_path)


def test_sent_to_another_process_it_is_a_place_on_disk(images, tmp_path):
    prepared = prepare(images, tmp_path)
    sent = pickle.dumps(prepared)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent)[:], prepared[:])


def test_images_cannot_be_overwritten_by_mistake(images, tmp_path):
    prepared = prepare(images, tmp_path)
    view = prepared[0]
    if view.flags.writeable:
        view[:] = 0
    assert prepare(images, tmp_path)[0].any()
