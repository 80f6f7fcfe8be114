"""Formats that nonet reads, whatever a file is called; others are called what they are, and none starts a program."""

import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.odd_images import GREY, RGB, as_file, as_rgb, as_tiff
from nonet.data.build import build_dataset
from nonet.data.images.decode import load_rgb
from nonet.data.images.file_kinds import detect_file_kind
from nonet.data.images.formats import FORMATS, IMAGE_SUFFIXES, looks_like_picture, why_not_opened
from nonet.errors import DataError

FTYP = b"\0\0\0\x18ftyp"
UNSUPPORTED = {
    "HEIC": FTYP + b"heic\0\0\0\0mif1heic" + bytes(50),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
    "DICOM": bytes(128) + b"DICM" + bytes(50),
    "NIfTI": (348).to_bytes(4, "little") + bytes(340) + b"n+1\0",
    "PDF": b"%PDF-1.7\n1 0 obj",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9"/>',
    "Photoshop": b"8BPS\0\x01" + bytes(50),
    "PNM": b"P6\n9 9\n255\n" + bytes(243),
    "HEIC image": b"\0\0\0\x1cftypjpeg\0\0\0\0mif1miaf" + bytes(50),
    "PCX": b"\n\5\1\x08" + bytes(60),
    "metafile": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(20),
    "camera": b"II*\0\x10\0\0\0CR\x02\0" + bytes(50),
    "Zeiss CZI": b"ZISRAWFILE" + bytes(50),
}
NO_PICTURES = {
    "web page": b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>",
    "JSON": b'{"error": "quota exceeded"}',
    "text, ": b"[InternetShortcut]\r\nURL=https://example.org\r\n",
    "RTF": b"{\\rtf1 Zellen}",
    "Windows shortcut": b"L\0\0\0\x01\x14\x02\0" + bytes(60),
    "text": "Zelle f\u00fcr Zelle".encode(),
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n",
    "zip": b"PK\x03\x04" + bytes(50),
    "NumPy": b"\x93NUMPY\x01\0" + bytes(50),
    "zero bytes": bytes(5000),
    "video": FTYP + b"isom" + bytes(50),
}


@pytest.mark.parametrize(("name", "data"), [*UNSUPPORTED.items(), *NO_PICTURES.items()])
def test_a_file_that_is_no_image_of_ours_is_called_what_it_is(tmp_path, name, data):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.jpg is .*{name}") as caught:
        load_rgb(tmp_path / "a.jpg")
    assert ("convert it" in caught.value.message) == (name in UNSUPPORTED)


def test_unknown_bytes_are_not_called_anything():
    noise = np.random.default_rng(0).integers(128, 256, 2000).astype(np.uint8).tobytes()
    assert why_not_opened(noise).startswith("not an image that nonet reads (JPEG, PNG")


def test_a_file_of_ours_that_cannot_be_opened_is_called_damaged():
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "JPEG2000", "BMP"):
        data = as_file(RGB, kind)
        assert "damaged" in why_not_opened(data)
        assert looks_like_picture(data[:64])


@pytest.mark.parametrize(
    "start", ["BM,label", "MZ", "ID3,path", "P1 7,LY", "P6\n1,LY", "MATLAB,x", "PAR1,PAR2", "II*", "DDS ,"]
)
def test_letters_at_the_beginning_of_a_table_are_no_format(tmp_path, start):
    (tmp_path / "a.csv").write_text(f"{start}\n1,2\n")
    assert detect_file_kind(tmp_path / "a.csv") is None


@pytest.mark.slow
def test_warnings_of_pillow_do_not_reach_the_terminal(tmp_path):
    """Of EXIF data that is damaged, and of a size that is refused anyway."""
    (tmp_path / "exif.jpg").write_bytes(as_file(RGB, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    png = as_file(RGB)
    head = b"IHDR" + (10_000).to_bytes(4, "big") * 2 + png[24:29]
    (tmp_path / "size.png").write_bytes(png[:12] + head + zlib.crc32(head).to_bytes(4, "big") + png[33:])
    code = "from nonet.data.scan import describe_images; import sys; print(*describe_images(sys.argv[1:]))"
    files = [str(tmp_path / name) for name in ("exif.jpg", "size.png")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr
    assert "ImageFacts" in done.stdout and "10000 x 10000 px" in done.stdout


def test_pictures_are_distinguished_from_other_files():
    assert all(looks_like_picture(data[:1024]) for data in UNSUPPORTED.values())
    assert not any(looks_like_picture(data[:1024]) for data in NO_PICTURES.values())


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_read_whatever_the_file_is_called(tmp_path, kind):
    (tmp_path / "a.txt").write_bytes(as_file(as_rgb(GREY), kind))
    assert np.abs(load_rgb(tmp_path / "a.txt").astype(int) - as_rgb(GREY)).mean() < 4


@pytest.mark.skipif(sys.platform == "win32", reason="looks for a program of another name")
def test_no_file_starts_a_program(tmp_path, monkeypatch):
    programs, marker = tmp_path / "bin", tmp_path / "started"
    programs.mkdir()
    for name in ("gs", "gswin64c", "djpeg"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    cells = tmp_path / "cells"
    for folder in ("LY", "MO"):
        (cells / folder).mkdir(parents=True)
    Image.fromarray(RGB).save(cells / "LY" / "a.png")
    Image.fromarray(RGB[::-1]).save(cells / "MO" / "a.png")
    for suffix in (".png", ".jpg", ".eps"):
        (cells / "LY" / f"drawing{suffix}").write_bytes(UNSUPPORTED["PostScript"] + b"showpage\n%%EOF\n")
    with pytest.raises(DataError, match="PostScript"):
        load_rgb(cells / "LY" / "drawing.png")
    assert len(build_dataset(f"folder:{cells}", tmp_path / "out").manifest) == 2
    assert not marker.exists()


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_ending_in_the_list_is_one_that_pillow_knows_to_be_of_an_allowed_format(suffix):
    Image.init()
    assert Image.EXTENSION[suffix] in {*FORMATS, "MPO", "DIB"}


def test_what_was_done_is_noted_in_the_manifest_and_summed_up(tmp_path):
    cells = tmp_path / "cells"
    for folder in ("LY", "MO"):
        (cells / folder).mkdir(parents=True)
    (cells / "LY" / "plain.png").write_bytes(as_file(RGB))
    (cells / "LY" / "a.png").write_bytes(as_file(np.dstack([RGB, np.zeros_like(GREY)])))
    (cells / "LY" / "b.tif").write_bytes(as_tiff(RGB.astype(np.uint16) * 16, photometric="rgb"))
    (cells / "MO" / "c.tif").write_bytes(as_tiff(RGB[::-1].astype(np.uint16) * 4, photometric="rgb"))
    (cells / "MO" / "frames.gif").write_bytes(
        as_file(Image.new("RGB", (80, 60)), "GIF", save_all=True, append_images=[Image.fromarray(RGB)])
    )
    dataset = build_dataset(f"folder:{cells}", tmp_path / "out")
    notes = dataset.manifest.set_index("path")["note"].str.split(":").str[0]
    assert notes.to_dict() == {
        "LY/a.png": "alpha ignored",
        "LY/b.tif": "read as 12 bits",
        "LY/plain.png": "",
        "MO/c.tif": "read as 10 bits",
    }
    assert dataset.manifest.set_index("path")["mode"]["LY/b.tif"] == "RGB;16"
    assert dataset.excluded["path"].tolist() == ["MO/frames.gif"]
    told = "\n".join(dataset.notes)
    assert '1 image with the note "alpha ignored", first cells/LY/a.png' in told
    assert "different value ranges" in told
