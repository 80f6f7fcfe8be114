"""Uploads: files in, a case out; what is kept of them, what is refused, and what a kill leaves."""

import asyncio
import contextlib
import io
import json
import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import httpx
import numpy as np
import pytest
from PIL import Image

from helpers import browsing
from helpers.odd_images import as_file, as_png16, noise, zipped
from helpers.processes import small_files
from helpers.reviews import HEADERS, PROGRAM, Predicting, predicting
from nonet.data.images.decode import load_rgb
from nonet.errors import DataError, StorageError
from nonet.inference.folder import PredictionFolder
from nonet.review import upload_files, uploads
from nonet.review.records import NotFoundError
from nonet.review.roles import User


@pytest.fixture
def run(random_run, tmp_path):
    return shutil.copytree(random_run.folder, tmp_path / "run")


@pytest.fixture
def page(run):
    with predicting(run) as made:
        yield made


def test_files_and_a_zip_become_a_case_of_what_the_ensemble_says(page):
    number = page.begin("Müller <7>")
    assert page.send(number, "a.png", as_file(noise(0))).json() == {"num_images": 1, "refused": []}
    archive = zipped({"slide/b.png": as_file(noise(1)), "slide/c.bmp": as_file(noise(2), "BMP")})
    assert page.send(number, "slides.zip", archive).json() == {"num_images": 2, "refused": []}
    done = page.finish(number)
    assert (done["state"], done["num_images"], done["num_predicted"]) == ("done", 3, 3)
    cells = page.client.get(f"/api/cases/{done['case_id']}/cells").json()
    assert [cell["image"] for cell in cells] == ["a.png", "b.png", "c.bmp"]
    case = page.client.get(f"/api/cases/{done['case_id']}").json()
    assert (case["name"], case["num_cells"], case["added_by"]) == ("Müller <7>", 3, "Ada")
    ensemble = page.site.predictor._ensemble
    assert [cell["predicted"] for cell in cells] == ensemble.predict([noise(k) for k in range(3)])
    for place, cell in enumerate(cells):
        assert cell["proba"] == pytest.approx(
            dict(zip(ensemble.classes, ensemble.predict_proba([noise(place)])[0])), abs=1e-5
        )
        shown = page.client.get(f"/cells/{cell['id']}/image").content
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), noise(place))


def test_what_cannot_be_used_is_listed_with_its_reason_and_spoils_nothing(page):
    number = page.begin()
    files = {
        "a.png": as_file(noise(0)),
        "notes.txt": b"hello",
        "../up.png": as_file(noise(1)),
        "cut.png": b"\x89PNG",
    }
    answer = page.send(number, "x.zip", zipped(files)).json()
    assert answer["num_images"] == 1
    assert [each["name"] for each in answer["refused"]] == ["x.zip/notes.txt", "x.zip/up.png", "x.zip/cut.png"]
    assert page.send(number, "<b>.svg", b"<svg><script/></svg>").json()["refused"][0]["name"] == "<b>.svg"
    assert page.send(number, "bad.zip", b"PK\x03\x04" + bytes(50)).json()["refused"] == [
        {"name": "bad.zip", "reason": upload_files.NOT_READ}
    ]
    assert page.send(number, "empty.png", b"").json()["num_images"] == 0
    found = page.status(number)
    assert (found["num_images"], found["num_refused"], len(found["refused"])) == (1, 6, 6)
    assert page.finish(number)["state"] == "done"


def test_a_file_that_is_sent_twice_is_stored_once(page):
    number = page.begin()
    data = as_file(noise(0))
    assert page.send(number, "a.png", data).json()["num_images"] == 1
    assert page.send(number, "a.png", data).json()["num_images"] == 0
    assert page.send(number, "a.zip", zipped({"a.png": data})).json()["num_images"] == 1, (
        "in the archive it has a folder"
    )
    assert page.send(number, "a.zip", zipped({"a.png": data})).json()["num_images"] == 0
    for _ in range(2):
        page.send(number, "notes.txt", b"hello")
    found = page.status(number)
    assert (found["num_images"], found["num_refused"]) == (2, 1)


def test_files_sent_at_once_all_arrive(page):
    number = page.begin()
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda k: page.send(number, f"{k % 20}.png", as_file(noise(k % 20, 20))), range(40))]
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["num_images"] for answer in answers) == 20
    done = page.finish(number)
    cells = page.client.get(f"/api/cases/{done['case_id']}/cells").json()
    assert sorted(cell["image"] for cell in cells) == sorted(f"{k}.png" for k in range(20))


def test_what_was_unusual_about_a_file_is_noted_though_only_its_pixels_are_kept(page):
    number = page.begin()
    page.send(number, "deep.png", as_png16(np.arange(60 * 80 * 3, dtype=np.uint16).reshape(60, 80, 3), 2))
    page.send(number, "flat.png", as_file(np.zeros((7, 50, 3), dtype=np.uint8)))
    done = page.finish(number)
    deep, flat = page.client.get(f"/api/cases/{done['case_id']}/cells").json()
    assert "16" in deep["note"] or "values" in deep["note"]
    assert flat["note"].count("small") == 1


@pytest.mark.parametrize("case", ["007", "NA", "null", "=1+1", "1e5", "'x'", 'a,b"c', "Ж" * 200, "<script>"])
def test_any_name_of_a_case_stays_as_it_is(page, case):
    number = page.begin(f"  {case}\n")
    page.send(number, "=a.png", as_file(noise(0, 20)))
    page.send(number, "b\",'.png", as_file(noise(1, 20)))
    done = page.finish(number)
    assert page.client.get(f"/api/cases/{done['case_id']}").json()["name"] == case
    cells = page.client.get(f"/api/cases/{done['case_id']}/cells").json()
    assert [cell["image"] for cell in cells] == ["=a.png", "b\",'.png"]


@pytest.mark.parametrize("case", ["", " ", "\n", "x" * 201, "all images"])
def test_a_name_that_cannot_be_that_of_a_case_is_refused(page, case):
    assert page.client.post("/api/uploads", json={"case": case}, headers=HEADERS).status_code == 422


def test_a_name_is_taken_by_an_open_upload_of_another_and_by_a_case(page, run):
    number = page.begin("7")
    assert page.begin("7") == number, "one's own is continued"
    page.site.user = User("Bob", "reviewer")
    assert page.client.post("/api/uploads", json={"case": "7"}, headers=HEADERS).status_code == 409
    page.site.user = User("Ada", "reviewer")
    page.send(number, "a.png", as_file(noise(0)))
    page.finish(number)
    assert page.client.post("/api/uploads", json={"case": "7"}, headers=HEADERS).status_code == 409


def test_uploads_of_others_do_not_exist_and_readers_cannot_upload(run):
    with predicting(run, start=False, role="reviewer") as page:
        number = page.begin()
        assert [each["id"] for each in page.client.get("/api/uploads").json()] == [number]
        page.site.user = User("Bob", "reviewer")
        assert page.client.get("/api/uploads").json() == []
        for answer in (
            page.client.get(f"/api/uploads/{number}"),
            page.send(number, "a.png", as_file(noise(0))),
            page.client.post(f"/api/uploads/{number}/predict", headers=HEADERS),
            page.client.delete(f"/api/uploads/{number}", headers=HEADERS),
        ):
            assert answer.status_code == 404
        page.site.user = User("Cy", "reader")
        assert page.client.post("/api/uploads", json={"case": "8"}, headers=HEADERS).status_code == 403
        assert 'id="upload"' not in page.client.get("/").text
        page.site.user = User("Root", "admin")
        assert page.client.get(f"/api/uploads/{number}").status_code == 200


@pytest.mark.parametrize("number", ["0" * 32, "../../etc", "x", "A" * 32])
def test_an_upload_that_does_not_exist(page, number):
    assert page.client.get(f"/api/uploads/{number}").status_code == 404
    assert page.send(number, "a.png", b"x").status_code in (404, 405)


def test_what_is_closed_stays_closed(page):
    number = page.begin()
    assert page.client.post(f"/api/uploads/{number}/predict", headers=HEADERS).status_code == 409, "no image"
    page.send(number, "a.png", as_file(noise(0)))
    page.finish(number)
    assert page.send(number, "b.png", as_file(noise(1))).status_code == 409
    assert page.client.post(f"/api/uploads/{number}/predict", headers=HEADERS).status_code == 409
    assert page.client.delete(f"/api/uploads/{number}", headers=HEADERS).status_code == 409


def test_a_deleted_upload_is_gone(page, run):
    number = page.begin()
    page.send(number, "a.png", as_file(noise(0)))
    assert page.client.delete(f"/api/uploads/{number}", headers=HEADERS).status_code == 204
    assert page.client.get(f"/api/uploads/{number}").status_code == 404
    assert not (run / "review" / "uploads" / number).exists()
    assert page.begin() != number


def test_an_upload_that_is_deleted_while_a_file_arrives(page):
    upload = page.site.uploads.get(page.begin(), page.site.user)
    with pytest.raises(NotFoundError), page.site.uploads.arriving(upload) as file:
        file.write_bytes(as_file(noise(0)))
        assert page.client.delete(f"/api/uploads/{upload.id}", headers=HEADERS).status_code == 204
        page.site.uploads.add(upload, "a.png", file)
    assert not upload.folder.exists()


def test_a_connection_that_ends_within_a_file_is_no_fault_of_the_program(page):
    number = page.begin()
    sent, arriving = [], [{"type": "http.request", "body": b"abc", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return arriving.pop(0) if len(arriving) > 1 else arriving[0]

    async def send(message):
        sent.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in PROGRAM.items()]
    headers += [(b"host", b"127.0.0.1:8765"), (b"content-length", b"5000")]
    place = {"path": f"/api/uploads/{number}/files", "query_string": b"name=a.png", "root_path": ""}
    scope = {"type": "http", "method": "PUT", "scheme": "http", "headers": headers, "http_version": "1.1"} | place
    asyncio.run(page.client.app(scope, receive, send))
    assert all(message.get("status", 400) < 500 for message in sent)
    assert page.send(number, "a.png", as_file(noise(0))).json()["num_images"] == 1
    assert page.finish(number)["num_images"] == 1, "nothing counts as arriving still"


def test_limits(page, run, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_OPEN", 2)
    monkeypatch.setattr(uploads, "MAX_IMAGES", 3)
    monkeypatch.setattr(uploads, "MAX_LISTED", 2)
    number = page.begin()
    page.begin("8")
    assert page.client.post("/api/uploads", json={"case": "9"}, headers=HEADERS).status_code == 409
    files = {f"{k}.png": as_file(noise(k, 20)) for k in range(8)}
    answer = page.send(number, "a.zip", zipped(files)).json()
    assert (answer["num_images"], len(answer["refused"])) == (3, 5)
    found = page.status(number)
    assert (found["num_images"], found["num_refused"], len(found["refused"])) == (3, 5, 2)
    assert len([*(run / "review" / "uploads" / number / "images").iterdir()]) == 3


def test_files_that_are_too_large_are_refused(page, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 5000)
    number = page.begin()
    large = as_file(noise(0, 60), "BMP")
    assert page.send(number, "a.bmp", large).json()["refused"] == [{"name": "a.bmp", "reason": upload_files.TOO_LARGE}]
    assert page.send(number, "b.png", as_file(noise(0, 20))).json()["num_images"] == 1
    headers = HEADERS | {"Content-Length": str(upload_files.MAX_ZIP_BYTES + 1)}
    answer = page.client.put(f"/api/uploads/{number}/files?name=a", content=b"x", headers=headers)
    assert answer.status_code == 413
    headers = HEADERS | {"Content-Length": "2000000"}
    answer = page.client.post("/api/uploads", content=b"x", headers=headers)
    assert answer.status_code == 413


def test_a_full_disk_is_said_in_words(page, monkeypatch):
    number = page.begin()
    monkeypatch.setattr(uploads, "MIN_FREE_BYTES", 2**62)
    answer = page.send(number, "a.png", as_file(noise(0)))
    assert answer.status_code == 507 and "1 GB" in answer.json()["detail"]
    assert page.client.post("/api/uploads", json={"case": "8"}, headers=HEADERS).status_code == 507
    monkeypatch.undo()
    with small_files(1000):
        answer = page.send(number, "a.png", as_file(noise(0)))
    assert answer.status_code == 507
    assert page.send(number, "a.png", as_file(noise(0))).json()["num_images"] == 1
    assert page.finish(number)["num_images"] == 1


def test_a_disk_that_is_full_when_a_state_changes_holds_up_nothing_for_good(page, monkeypatch):
    numbers = [page.begin(case) for case in ("7", "8")]
    for number in numbers:
        page.send(number, "a.png", as_file(noise(0)))

    def full(*about):
        raise StorageError("No space left on device.")

    def fail(*about):
        patched.setattr(uploads.folders, "save", full)
        raise DataError("The device is on fire.")

    with monkeypatch.context() as patched:
        patched.setattr(uploads.folders, "save", full)
        assert page.client.post(f"/api/uploads/{numbers[0]}/predict", headers=PROGRAM).status_code == 507
        assert page.status(numbers[0])["state"] == "receiving"
    with monkeypatch.context() as patched:
        patched.setattr(page.site.predictor, "predict_folder", fail)
        assert page.finish(numbers[0], seconds=30)["state"] == "failed"
    for number in numbers:
        assert page.finish(number, seconds=30)["state"] == "done"


def test_an_upload_goes_on_after_a_restart(run):
    with predicting(run, start=False) as page:
        number = page.begin()
        page.send(number, "a.png", as_file(noise(0)))
        page.send(number, "notes.txt", b"hello")
    folder = run / "review" / "uploads" / number
    (folder / "arriving" / "half").write_bytes(b"x")
    (folder / "images" / "00002.png").write_bytes(b"half")  # its line was not written
    (folder / "images" / ".nonet-tmp.00003.png").write_bytes(b"half")
    with (folder / "files.jsonl").open("ab") as stream:
        stream.write(b'{"number": 2, "na')
    with predicting(run) as page:
        found = page.status(number)
        assert (found["state"], found["num_images"], found["num_refused"]) == ("receiving", 1, 1)
        assert [file.name for file in (folder / "images").iterdir()] == ["00001.png"]
        assert [*(folder / "arriving").iterdir()] == []
        assert 'data-action="continue"' in page.client.get("/").text
        assert page.send(number, "a.png", as_file(noise(0))).json()["num_images"] == 0
        assert page.send(number, "b.png", as_file(noise(1))).json()["num_images"] == 1
        assert page.finish(number)["num_images"] == 2


def test_abandoned_uploads_are_removed_at_the_start_and_others_stay(run, caplog):
    with predicting(run, start=False) as page:
        old, new = page.begin("old"), page.begin("new")
        page.send(old, "a.png", as_file(noise(0)))
    folder = run / "review" / "uploads"
    facts = json.loads((folder / old / "upload.json").read_text())
    (folder / old / "upload.json").write_text(json.dumps(facts | {"changed_at": "2020-01-01T00:00:00.000+00:00"}))
    with predicting(run) as page:
        assert page.status(old)["state"] == "receiving", "a file came later"
    os.utime(folder / old / "files.jsonl", (10**9, 10**9))
    with caplog.at_level(logging.INFO, logger="nonet"), predicting(run) as page:
        assert [each["id"] for each in page.client.get("/api/uploads").json()] == [new]
    assert 'Removed the upload of case "old"' in caplog.text
    assert not (folder / old).exists() and (folder / new).exists()


@pytest.mark.parametrize("file", ["upload.json", "files.jsonl"])
@pytest.mark.parametrize("text", ["{\n", '{"state": "receiving", "unknown": 1}\n', "[1]\n", "\x00\n"])
def test_damaged_folders_stop_nothing(run, caplog, file, text):
    with predicting(run, start=False) as page:
        number = page.begin()
    folder = run / "review" / "uploads"
    (folder / number / file).write_text(text)
    (folder / ("a" * 32)).mkdir()  # killed before upload.json was there
    (folder / "mine").mkdir()
    with predicting(run, start=False) as page:
        assert page.client.get("/api/uploads").json() == []
    assert "damaged" in caplog.text
    assert sorted(each.name for each in folder.iterdir()) == sorted(["mine", number])


def test_a_run_that_cannot_be_loaded_is_still_good_for_reviewing(run):
    weights = next(run.rglob("weights.safetensors"))
    with predicting(run, start=False) as page:
        number = page.begin()
        page.send(number, "a.png", as_file(noise(0)))
        page.site.uploads.close(page.site.uploads.get(number, page.site.user))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with predicting(run, start=False) as page:
        page.site.start()
        assert not page.site.predictor.wait(60)
        assert page.client.get("/").status_code == 200
        assert "weights.safetensors" in page.client.get("/").text
        for answer in (
            page.client.get("/readyz"),
            page.predict(as_file(noise(0))),
            page.client.post("/api/uploads", json={"case": "8"}, headers=HEADERS),
        ):
            assert answer.status_code == 503 and "weights.safetensors" in answer.json()["detail"]
        assert page.status(number)["state"] == "failed"
    weights.write_bytes(whole)
    with predicting(run) as page:
        end = time.monotonic() + 60
        while page.status(number)["state"] != "done":
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_failed_prediction_says_why_and_can_be_tried_again(page, monkeypatch):
    number = page.begin()
    page.send(number, "a.png", as_file(noise(0)))

    def fail(*about):
        raise DataError("The device is on fire.")

    with monkeypatch.context() as patched:
        patched.setattr(page.site.predictor, "predict_folder", fail)
        found = page.finish(number)
    assert (found["state"], found["reason"]) == ("failed", "The device is on fire.")
    assert "on fire" in page.client.get("/").text
    assert page.finish(number)["state"] == "done"


@contextmanager
def served(run):
    """Run `nonet serve` in a process of its own; yield it and a client."""
    with (
        browsing.served(run, "--accelerator", "cpu") as (address, process),
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield process, Predicting(client, None)


@pytest.mark.kill
def test_what_was_acknowledged_survives_a_kill(run):
    """Killed while four clients send; each file that was acknowledged is there, and sending all again adds the rest."""
    files = {f"{k}.png": as_file(noise(k, 60)) for k in range(60)}
    acknowledged = []
    with served(run) as (process, page):
        number = page.begin()

        def send(name):
            with contextlib.suppress(httpx.HTTPError):
                if page.send(number, name, files[name]).status_code == 200:
                    acknowledged.append(name)
                    if len(acknowledged) == 20:
                        process.kill()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, files))
    assert 20 <= len(acknowledged) < 60
    with predicting(run) as page:
        images = page.site.uploads.get(number, page.site.user).images
        assert {name for name, _ in images} >= set(acknowledged)
        for image in images.values():
            pixels = load_rgb(run / "review" / "uploads" / number / "images" / f"{image.number:05d}.png")
            assert np.array_equal(pixels, load_rgb(files[image.name]))
        for name, data in files.items():
            assert page.send(number, name, data).status_code == 200
        done = page.finish(number)
        assert (done["state"], done["num_images"]) == ("done", 60)
        cells = page.client.get(f"/api/cases/{done['case_id']}/cells").json()
        assert sorted(cell["image"] for cell in cells) == sorted(files)


@pytest.mark.kill
def test_a_prediction_goes_on_after_a_kill_where_it_was(run):
    folder = run / "review" / "uploads"
    with served(run) as (process, page):
        number = page.begin()
        page.send(number, "a.zip", zipped({f"{k}.png": as_file(noise(k, 200)) for k in range(250)}))
        page.client.post(f"/api/uploads/{number}/predict", headers=PROGRAM)
        parts = folder / number / "predictions" / "parts"
        end = time.monotonic() + 90
        while not any(parts.glob("[0-9]*.parquet")):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.005)
        process.kill()
    first = parts / "000000.parquet"
    assert first.exists(), "killed in the middle"
    with predicting(run, start=False) as page:
        assert page.status(number)["state"] == "predicting"
        seen = []
        begin = PredictionFolder.chunks_left
        with mock.patch.object(PredictionFolder, "chunks_left", lambda *about: seen.append(begin(*about)) or seen[-1]):
            page.site.start()
            done = page.finish(number)
        assert (done["state"], done["num_images"]) == ("done", 250)
        assert all(chunk.number > 0 for chunk in seen[0]), "the first part is not predicted again"
