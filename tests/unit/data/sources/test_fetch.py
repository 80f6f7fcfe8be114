"""Fetching, against a server of our own: cut off and resumed, wrong hash, 404, slow; no other network."""

import hashlib
import http.server
import io
import itertools
import json
import re
import sys
import threading
import time
import urllib.request
import zipfile
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors
from PIL import Image

import nonet
from helpers.processes import small_files
from nonet.data.build import build_dataset
from nonet.data.sources import SOURCES, Source
from nonet.data.sources import download as downloads
from nonet.data.sources.acevedo import ACEVEDO
from nonet.data.sources.base import Download
from nonet.data.sources.download import Downloader, fetch_file
from nonet.errors import DataError, StorageError

BODY = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


class Behaviour:
    """What the server does; the tests change it, and read what was asked of it."""

    def __init__(self):
        self.body, self.etag, self.status = BODY, '"one"', 200
        self.cut_after: list[int] = []  # bytes after which each of the next answers is cut off
        self.ranges = True
        self.says_length, self.location = True, ""
        self.honest = True  # about which part of the file it sends
        self.pause_s = 0.0
        self.asked: list[str | None] = []  # Range header of each request
        self.sent = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        does = self.server.does
        asked, same = self.headers.get("Range"), self.headers.get("If-Range") in (None, does.etag)
        does.asked.append(asked)
        if does.status == 302:
            self.send_response(302)
            self.send_header("Location", does.location)
            self.end_headers()
            return
        if does.status != 200:
            self.send_error(does.status)
            return
        start = 0
        if asked and does.ranges and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(does.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(does.body)}")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        if does.says_length:
            self.send_header("Content-Length", str(len(does.body) - start))
        if start:
            at = start if does.honest else start - 7
            self.send_header("Content-Range", f"bytes {at}-{len(does.body) - 1}/{len(does.body)}")
        if does.etag:
            self.send_header("ETag", does.etag)
        self.end_headers()
        end = min(len(does.body), start + does.cut_after.pop(0)) if does.cut_after else len(does.body)
        try:
            for at in range(start, end, 50_000):
                chunk = does.body[at : min(at + 50_000, end)]
                self.wfile.write(chunk)
                does.sent += len(chunk)
                time.sleep(does.pause_s)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def does():
    return Behaviour()


@pytest.fixture
def url(does, monkeypatch):
    """Address of a file on a loopback server, near which no proxy and no long wait stands."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "WAIT_S", 0.01)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.does, server.daemon_threads = does, True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()
    thread.join()


def quick(path, **options):
    return Downloader(path.with_name(f".{path.name}.part"), wait_s=0.01, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_is_not_mistaken_for_a_bad_connection(url, does, tmp_path):
    """No attempts that must fail as well; what has arrived is kept, and the same call asks for the rest."""
    path = tmp_path / "data.npz"
    with small_files(100_000), pytest.raises(StorageError, match=r"data\.npz"):
        fetch_file(url, path, MD5, quick(path))
    assert len(does.asked) == 1
    fetch_file(url, path, MD5, quick(path))
    assert path.read_bytes() == BODY
    assert does.asked[1] == "bytes=100000-"


def test_a_download_is_checked_and_done_once(url, does, tmp_path):
    path = tmp_path / "data.npz"
    for _ in range(2):
        assert fetch_file(url, path, MD5, quick(path)) == hashlib.sha256(BODY).hexdigest()
    assert path.read_bytes() == BODY
    assert does.asked == [None], "a file that is there with its checksum is not asked for again"
    assert [p.name for p in tmp_path.iterdir()] == ["data.npz"]


def test_cut_off_it_resumes_where_it_was(url, does, tmp_path):
    does.cut_after = [100_000, 70_000]
    path = tmp_path / "data.npz"
    fetch_file(url, path, MD5, quick(path))
    assert path.read_bytes() == BODY
    assert does.asked == [None, "bytes=100000-", "bytes=170000-"]
    assert does.sent == len(BODY), "no byte was sent twice"


def test_another_run_takes_up_what_a_former_one_left(url, does, tmp_path):
    does.cut_after = [100_000, 0, 0]
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match="100,000 bytes"):
        fetch_file(url, path, MD5, quick(path, attempts=2))
    assert not path.exists()
    fetch_file(url, path, MD5, quick(path))
    assert path.read_bytes() == BODY
    assert does.asked[-1] == "bytes=100000-"


def test_a_file_that_changed_in_between_is_taken_from_its_start(url, does, tmp_path):
    does.cut_after = [100_000, 0, 0]
    path = tmp_path / "data.npz"
    with pytest.raises(DataError):
        fetch_file(url, path, None, quick(path, attempts=2))
    does.body, does.etag = BODY[::-1], '"two"'
    fetch_file(url, path, None, quick(path))
    assert path.read_bytes() == BODY[::-1]


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"one"'), (True, None), (True, 'W/"weak"')])
def test_a_server_that_cannot_resume_is_asked_for_the_whole_file(url, does, tmp_path, ranges, etag):
    does.ranges, does.etag, does.cut_after = ranges, etag, [100_000]
    path = tmp_path / "data.npz"
    fetch_file(url, path, MD5, quick(path))
    assert path.read_bytes() == BODY


def test_a_part_that_is_longer_than_the_file_is_thrown_away(url, does, tmp_path):
    path = tmp_path / "data.npz"
    downloader = quick(path)
    downloader.part.write_bytes(BODY + b"more")
    downloader.mark.write_text(json.dumps({"url": url, "validator": does.etag}))
    fetch_file(url, path, MD5, downloader)
    assert path.read_bytes() == BODY


def test_a_part_that_is_all_of_the_file_is_not_fetched_again(url, does, tmp_path):
    path = tmp_path / "data.npz"
    downloader = quick(path)
    downloader.part.write_bytes(BODY)
    downloader.mark.write_text(json.dumps({"url": url, "validator": does.etag}))
    fetch_file(url, path, MD5, downloader)
    assert path.read_bytes() == BODY and does.sent == 0


def test_another_range_than_requested_is_refused(url, does, tmp_path):
    does.honest, does.cut_after = False, [100_000]
    path = tmp_path / "data.npz"
    fetch_file(url, path, None, quick(path))
    assert path.read_bytes() == BODY


def test_a_wrong_file_is_named_and_not_kept(url, does, tmp_path):
    does.body = b"<html>Please log in</html>"
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match=url):
        fetch_file(url, path, MD5, quick(path))
    assert list(tmp_path.iterdir()) == []
    does.body = BODY
    fetch_file(url, path, MD5, quick(path))
    assert path.read_bytes() == BODY


def test_a_damaged_file_is_fetched_again(url, does, tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(BODY[:-1])
    fetch_file(url, path, MD5, quick(path))
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_refusal_is_reported_at_once(url, does, tmp_path, status):
    does.status = status
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match=str(status)):
        fetch_file(url, path, MD5, quick(path))
    assert len(does.asked) == 1


def test_a_server_in_trouble_is_asked_again(url, does, tmp_path):
    does.status = 503
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match="503"):
        fetch_file(url, path, MD5, quick(path, attempts=3))
    assert len(does.asked) == 3


def test_a_slow_download_arrives(url, does, tmp_path):
    does.pause_s = 0.05
    path = tmp_path / "data.npz"
    fetch_file(url, path, MD5, quick(path, silence_s=5))
    assert len(does.asked) == 1


def test_silence_counts_as_cut_off_and_is_resumed(url, does, tmp_path):
    does.pause_s = 1.0
    path = tmp_path / "data.npz"
    fetch_file(url, path, MD5, quick(path, silence_s=0.3))
    assert path.read_bytes() == BODY
    assert does.asked[0] is None and len(does.asked) > 1
    assert all(asked is not None for asked in does.asked[1:])


def test_no_server_at_all_is_an_error_in_words(url, tmp_path):
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/file"):
        fetch_file("http://127.0.0.1:9/file", path, MD5, quick(path, attempts=1))


# fetch_source


@pytest.fixture
def made_up(url, monkeypatch):
    """Put a source of one download into SOURCES."""

    def make(**known):
        download = Download(url, **({"evidence": "made up", "file": "data.bin"} | known))
        source = Source(
            "made-up",
            "a test",
            ACEVEDO.reader,
            "a layout",
            published="nowhere",
            licence="CC0",
            downloads=(download,),
            by_hand="Draw it yourself.",
        )
        monkeypatch.setitem(SOURCES, "made-up", source)
        return source

    return make


def test_with_the_publishers_checksum_it_is_called_verified(made_up, tmp_path):
    made_up(checksum=MD5, verified=True)
    fetched = nonet.fetch_source("made-up", tmp_path / "out")
    assert fetched.verified and "Verified: " in str(fetched)
    assert fetched.files == {"data.bin": hashlib.sha256(BODY).hexdigest()}
    record = json.loads((tmp_path / "out/fetched.json").read_text())
    assert record["verified"] and record["sha256"] == fetched.files and record["licence"] == "CC0"
    assert f'nonet data build "made-up:{tmp_path / "out"}"' in str(fetched)


def test_without_one_the_hash_is_reported_and_written_down_but_not_called_verified(made_up, tmp_path):
    made_up()
    fetched = nonet.fetch_source("made-up", tmp_path / "out")
    assert not fetched.verified
    assert hashlib.sha256(BODY).hexdigest() in str(fetched)
    assert json.loads((tmp_path / "out/fetched.json").read_text())["verified"] is False


def test_a_checksum_that_is_not_the_publishers_is_checked_but_not_called_verified(made_up, tmp_path):
    made_up(checksum=MD5)
    assert not nonet.fetch_source("made-up", tmp_path / "out").verified


def test_what_cannot_be_fetched_says_what_to_do_by_hand(made_up, does, tmp_path):
    made_up()
    does.status = 404
    with pytest.raises(DataError, match="Draw it yourself"):
        nonet.fetch_source("made-up", tmp_path / "out")
    with pytest.raises(DataError, match=r"raabin (.|\n)*raabindata"):
        nonet.fetch_source("raabin", tmp_path / "out")


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def cell(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def test_an_archive_is_unpacked_so_that_build_reads_it(made_up, does, tmp_path):
    made_up(file="set.zip")
    does.body = zipped({"PBC/basophil/BA_1.png": cell(1), "PBC/ig/MMY_2.png": cell(2), "__MACOSX/PBC/._x": b"x"})
    for _ in range(2):
        nonet.fetch_source("made-up", tmp_path / "out")
    assert len(does.asked) == 1
    dataset = build_dataset(f"made-up:{tmp_path / 'out'}", tmp_path / "dataset")
    assert list(dataset.manifest["label"]) == ["BA", "MMY"]
    assert dataset.excluded.empty


def test_a_file_that_is_not_an_archive_is_deleted(made_up, does, tmp_path):
    made_up(file="set.zip")
    does.body = b"<html>Too many requests</html>"
    with pytest.raises(DataError, match=r"set\.zip"):
        nonet.fetch_source("made-up", tmp_path / "out")
    does.body = zipped({"basophil/BA_1.png": cell(1)})
    nonet.fetch_source("made-up", tmp_path / "out")
    assert (tmp_path / "out/basophil/BA_1.png").exists()


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1:9/file"])
def test_a_redirect_to_another_scheme_is_not_followed(url, does, tmp_path, target):
    does.status, does.location = 302, target
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match=re.escape(target)):
        fetch_file(url, path, None, quick(path))
    assert not path.exists()


def test_https_is_not_left_for_http():
    request = urllib.request.Request("https://example.org/file")
    with pytest.raises(DataError, match="https"):
        downloads._SafeRedirects().redirect_request(request, None, 302, "Found", {}, "http://example.org/file")
    followed = downloads._SafeRedirects().redirect_request(request, None, 302, "", {}, "https://example.org/other")
    assert followed.full_url == "https://example.org/other"


def test_a_body_without_end_stops_before_the_disk_is_full(url, does, tmp_path, monkeypatch):
    does.says_length = False
    does.body = BODY * 10
    free = itertools.chain([10_000_000, 9_000_000], itertools.repeat(500_000))
    monkeypatch.setattr(downloads, "RESERVE", 1_000_000)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match=r"data\.npz"):
        fetch_file(url, path, None, quick(path))
    assert not path.exists() and quick(path).part.stat().st_size < 2_000_000


def test_a_body_that_is_larger_than_the_disk_is_refused_before_it_comes(url, does, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=downloads.RESERVE + 299_999))
    path = tmp_path / "data.npz"
    with pytest.raises(DataError, match="300,000 bytes"):
        fetch_file(url, path, None, quick(path))
    assert not path.exists() and not quick(path).part.exists()


def test_bloodmnists_variants(tmp_path):
    source = SOURCES["bloodmnist"]
    assert source.download().file == "bloodmnist_64.npz"
    assert source.download("224").file == "bloodmnist_224.npz"
    with pytest.raises(DataError, match="64, 28, 128, 224"):
        nonet.fetch_source("bloodmnist", tmp_path, variant="32")


# The hub


def no_network(*args, **kwargs):
    raise AssertionError("the network was asked")


def test_without_a_token_a_gated_set_is_explained_before_anything_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(DataError, match=r"gated(.|\n)*token(.|\n)*hf auth login"):
        nonet.fetch_source("wbcbench-hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError, "does not give access to the owner of this token"),
        (errors.RepositoryNotFoundError, "https://huggingface.co/datasets/Xin-Tian/wbcbench2026 does not exist"),
        (errors.HfHubHTTPError, "cannot be downloaded: HfHubHTTPError"),
    ],
)
def test_what_the_hub_answers_is_said_in_words(monkeypatch, tmp_path, error, words):
    def answer(*args, **kwargs):
        raise error("no", response=SimpleNamespace(headers={}, request=None, status_code=403))

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_made_up")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    with pytest.raises(DataError, match=words):
        nonet.fetch_source("wbcbench-hf", tmp_path / "out")


def test_what_the_hub_gives_is_hashed_and_written_down(monkeypatch, tmp_path):
    def give(name, *, repo_type, local_dir):
        assert (name, repo_type) == ("ehottl/blood_dataset", "dataset")
        (local_dir / ".cache").mkdir(parents=True)
        (local_dir / ".cache" / "x").write_bytes(b"x")
        (local_dir / "train.parquet").write_bytes(BODY)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    fetched = nonet.fetch_source("blood8", tmp_path / "out")
    assert fetched.files == {"train.parquet": hashlib.sha256(BODY).hexdigest()}
    assert not fetched.verified
