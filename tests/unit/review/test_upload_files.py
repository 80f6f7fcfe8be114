"""What is kept of an uploaded file, and what an archive cannot do."""

import io
import stat
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from helpers.odd_images import GREY, RGB, as_file, as_png16, as_tiff, pages_as_tiff, with_chunk
from nonet.data.images.decode import load_rgb
from nonet.errors import DataError
from nonet.review import upload_files as module
from nonet.review.upload_files import clean_name, display_names, encode, unpack

PNG = as_file(RGB)


def made(tmp_path, files, compression=zipfile.ZIP_DEFLATED):
    """Write an archive of (name or ZipInfo, content) and return its path."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return path


def info(name, *, mode=None, flags=0):
    one = zipfile.ZipInfo(name)
    one.create_system = 3
    one.external_attr = (mode or 0) << 16
    one.flag_bits |= flags
    return one


def header_of(width, height):
    """Return a PNG of a few bytes that says it is of this size."""
    chunk = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", chunk), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return body


@pytest.mark.parametrize(
    "data",
    [
        PNG,
        as_file(RGB, "JPEG"),
        as_file(RGB, "BMP"),
        as_file(RGB, "WEBP"),
        as_file(GREY),
        as_file(Image.fromarray(RGB).convert("P"), "GIF"),
        as_file(Image.fromarray(RGB).convert("RGBA")),
        as_tiff(RGB, photometric="rgb"),
        as_png16(np.arange(60 * 80 * 3, dtype=np.uint16).reshape(60, 80, 3), 2),
        as_file(RGB, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    ],
)
def test_the_pixels_are_kept_as_everything_else_reads_them(data):
    assert np.array_equal(load_rgb(encode(data).png), load_rgb(data))


def test_nothing_but_pixels_is_kept():
    secret = b"Jane Doe 1970-01-01"
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", secret.decode())
    exif = Image.Exif()
    exif[0x010E] = secret.decode()
    hidden = [
        as_file(RGB, pnginfo=text),
        with_chunk(PNG, b"teXt", secret),
        as_file(RGB, "JPEG", comment=secret),
        as_file(RGB, "JPEG", exif=exif),
        PNG + secret,  # behind the picture
        as_file(RGB, "JPEG") + b"<script>alert(1)</script>" + secret,
        as_tiff(RGB, photometric="rgb", description=secret.decode()),
        PNG + made_in_memory({"evil.html": secret}),
    ]
    for data in hidden:
        assert secret in data
        kept = encode(data).png
        assert secret not in kept and b"script" not in kept and b"PK\x03\x04" not in kept
        with Image.open(io.BytesIO(kept)) as picture:
            assert not picture.info and not picture.getexif()


def made_in_memory(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!DOCTYPE html><p>",
        b"%PDF-1.7\n" + PNG,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"\x7fELF" + bytes(100),
        b"MZ\x90\0" + bytes(100),
        b"\0" * 1000,
        b"P6 2 2 255\n" + bytes(12),
        PNG[:60],
        as_file(RGB, "JPEG")[:-200],
        b"GIF89a" + bytes(20),
    ],
)
def test_what_is_not_a_whole_image_is_refused_by_its_content(data):
    with pytest.raises(DataError, match=r"^The file "):
        encode(data)


def test_several_frames_are_refused():
    frames = [Image.fromarray(np.roll(RGB, k, axis=0)) for k in range(3)]
    gif, tiff, webp = io.BytesIO(), io.BytesIO(), io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    frames[0].save(tiff, "TIFF", save_all=True, append_images=frames[1:] * 3)
    frames[0].save(webp, "WEBP", save_all=True, append_images=frames[1:])
    for stream in (gif, tiff, webp):
        with pytest.raises(DataError):
            encode(stream.getvalue())


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 1), (6400, 6300)])
def test_a_bomb_is_refused_before_it_is_decoded(size):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="px"):
            encode(header_of(*size))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_tiff_bomb_of_tifffile_is_refused():
    small = bytearray(pages_as_tiff((np.zeros((8, 8), dtype=np.float32), {})))
    for tag in (256, 257):  # width and height
        at = small.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in small else None
        at = at if at is not None else small.index(struct.pack("<HHI", tag, 3, 1))
        small[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 50_000)
    with pytest.raises(DataError):
        encode(bytes(small))


def test_the_files_of_an_archive_are_read_and_what_systems_leave_is_not(tmp_path):
    files = [
        ("a.png", PNG),
        ("slide/b.png", b"b"),
        ("empty/", b""),
        ("__MACOSX/._a.png", b"x"),
        ("slide/._b.png", b"x"),
        ("slide/Thumbs.db", b"x"),
        ("Zellen/ü.png", b"u"),
    ]
    assert dict(unpack(made(tmp_path, files))) == {"a.png": PNG, "slide/b.png": b"b", "Zellen/ü.png": b"u"}


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "a/../../b.png",
        "/etc/passwd",
        "C:/a.png",
        "c:a.png",
        "..\\a.png",
        "a\\..\\b.png",
        "\\\\host\\a.png",
        "..",
        "a/..",
    ],
)
def test_a_name_outside_the_archive_is_refused_and_the_others_are_read(tmp_path, name):
    found = [content for _, content in unpack(made(tmp_path, [(name, b"evil"), ("good.png", b"good")]))]
    assert found == [module.OUTSIDE, b"good"]


def test_links_devices_encrypted_and_nested_members_are_refused(tmp_path):
    nested = made_in_memory({"a.png": PNG})
    files = [
        (info("link.png", mode=stat.S_IFLNK | 0o777), b"/etc/passwd"),
        (info("device.png", mode=stat.S_IFCHR | 0o600), b""),
        (info("plain.png", mode=stat.S_IFREG | 0o644), b"plain"),
        ("inner.zip", nested),
        ("inner.png", nested),
    ]
    found = dict(unpack(made(tmp_path, files)))
    assert found == {
        "link.png": module.LINK,
        "device.png": module.LINK,
        "plain.png": b"plain",
        "inner.zip": module.NESTED,
        "inner.png": module.NESTED,
    }
    path = made(tmp_path, [("secret.png", b"x" * 50), ("b.png", b"b")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag "encrypted" in the directory
    path.write_bytes(data)
    assert dict(unpack(path)) == {"secret.png": module.ENCRYPTED, "b.png": b"b"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_take_much_memory_are_refused(tmp_path, method):
    assert dict(unpack(made(tmp_path, [("a.png", PNG)], method))) == {"a.png": module.METHOD}


def test_a_member_is_counted_by_its_bytes_and_not_by_what_its_header_says(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1_000_000)
    path = made(tmp_path, [("bomb.png", bytes(5_000_000)), ("good.png", b"good")])
    data = path.read_bytes().replace(struct.pack("<I", 5_000_000), struct.pack("<I", 1000))
    path.write_bytes(data)
    found = dict(unpack(path))
    assert found["good.png"] == b"good"
    assert found["bomb.png"] in (module.TOO_LARGE, module.DAMAGED)
    honest = made(tmp_path, [("bomb.png", bytes(5_000_000)), ("good.png", b"good")])
    assert dict(unpack(honest)) == {"bomb.png": module.TOO_LARGE, "good.png": b"good"}


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_stopped_early(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1_000_000)
    read = []
    path = made(tmp_path, [(f"{k}.png", bytes(900_000)) for k in range(100)])
    with pytest.raises(DataError, match=module.BOMB):
        read.extend(unpack(path))
    assert 0 < len(read) < 20


def test_members_that_share_bytes_are_refused(tmp_path):
    path = made(tmp_path, [("a.png", b"a" * 5000), ("b.png", b"b" * 5000)], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # its place: that of the first
    path.write_bytes(data)
    with pytest.raises(DataError, match=module.OVERLAP):
        list(unpack(path))


def test_more_members_than_allowed_and_a_vast_directory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_MEMBERS", 10)
    with pytest.raises(DataError, match=module.TOO_MANY):
        list(unpack(made(tmp_path, [(f"{k}", b"") for k in range(11)])))
    assert len(list(unpack(made(tmp_path, [(f"{k}", b"x") for k in range(10)])))) == 10
    monkeypatch.setattr(module, "_MAX_DIRECTORY_BYTES", 400)
    with pytest.raises(DataError, match=module.NOT_READ):
        list(unpack(made(tmp_path, [(f"{k}", b"") for k in range(10)])))


@pytest.mark.parametrize("cut", [30, 200, -10])
def test_a_damaged_archive_is_refused(tmp_path, cut):
    path = made(tmp_path, [("a.png", PNG), ("b.png", PNG)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=module.NOT_READ):
        list(unpack(path))


def test_a_damaged_member_does_not_spoil_the_others(tmp_path):
    path = made(tmp_path, [("a.png", b"a" * 5000), ("b.png", b"b")], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert dict(unpack(path)) == {"a.png": module.DAMAGED, "b.png": b"b"}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a.png", "a.png"),
        ("slide 1/a.png", "slide 1/a.png"),
        ("C:\\fakepath\\a.png", "C:/fakepath/a.png"),
        ("../../etc/passwd", "etc/passwd"),
        ("/", "image"),
        ("", "image"),
        ("..", "image"),
        ("u\u0308.png", "ü.png"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("a\x00\x1b[2Jb.png", "a\\x00\\x1b[2Jb.png"),
        ("a \t\n b.png", "a b.png"),
        ("<img src=x>.png", "<img src=x>.png"),
        ("\ud800.png", "\\ud800.png"),
    ],
)
def test_names_are_printable_and_never_lead_anywhere(sent, shown):
    assert clean_name(sent) == shown


def test_long_names_are_shortened_and_keep_their_ending():
    name = clean_name("x" * 5000 + ".png")
    assert len(name) == module.MAX_NAME and name.endswith(".png")


def test_names_show_their_folder_only_where_two_are_equal():
    names = ["a/1.png", "a/2.png", "b/1.png", "x/c/3.png", "y/c/3.png", "4.png", "4.png", "4.png"]
    shown = display_names(names)
    assert shown == ["a/1.png", "2.png", "b/1.png", "x/c/3.png", "y/c/3.png", "4.png (2)", "4.png (3)", "4.png (4)"]
    assert len(set(display_names(["4.png", "4.png", "4.png (2)", "b/" * 150 + "a", "c/" * 150 + "a"]))) == 5
