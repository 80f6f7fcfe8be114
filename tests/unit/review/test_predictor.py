"""Single images through the page's networks: as the ensemble says, together, in turn, and not too many at once."""

import io
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

import nonet
from helpers.odd_images import as_file, noise
from helpers.reviews import HEADERS, predicting
from nonet.differential.shares import RESEARCH_USE
from nonet.review import predictor as module
from nonet.review import upload_files
from nonet.review.predictor import Turns
from nonet.review.roles import User


@pytest.fixture(scope="module")
def page(random_run, tmp_path_factory):
    """A page whose networks tell images apart. Shared: what is changed in it is changed back."""
    with predicting(shutil.copytree(random_run.folder, tmp_path_factory.mktemp("page") / "run")) as made:
        yield made


def metric(page, name):
    text = page.client.get("/metrics").text
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


def test_an_image_is_answered_as_in_predictions_csv(page, tmp_path):
    (tmp_path / "a.png").write_bytes(as_file(noise(0)))
    run = page.site.run
    table = nonet.predict(run, tmp_path / "a.png", out=tmp_path / "out", accelerator="cpu").table()
    row = table.iloc[0]
    answer = page.predict((tmp_path / "a.png").read_bytes()).json()
    for name in ("label", "reason", "best", "note", "error"):
        assert answer[name] == row[name]
    assert answer["set"] == [code for code in row["set"].split("|") if code]
    for name in ("confidence", "agreement", "spread"):
        assert answer[name] == pytest.approx(row[name], abs=1e-5)
    assert answer["ood_percentile"] is None, "this run has no scores"
    assert answer["proba"] == pytest.approx(
        {name.removeprefix("p_"): row[name] for name in table if name.startswith("p_")}, abs=1e-5
    )
    assert (answer["num_members"], answer["notice"]) == (2, RESEARCH_USE)
    assert answer["model"] == page.site.predictor.model and len(answer["model"]) == 64


def test_a_note_says_what_is_unusual(page):
    assert "small" in page.predict(as_file(noise(0, 7))).json()["note"]


def test_images_that_arrive_together_are_predicted_together_and_alike(page):
    """While a turn is held elsewhere, all gather; they are as the ensemble says, whatever the batch."""
    files = [as_file(noise(seed)) for seed in range(30)]
    before = metric(page, "nonet_batch_images_count"), metric(page, "nonet_batch_images_sum")
    with ThreadPoolExecutor(30) as pool:
        with page.site.predictor._turns:
            waiting = [pool.submit(page.predict, data) for data in files]
            end = time.monotonic() + 60
            while page.site.predictor.num_waiting < 30 or len(page.site.predictor._tasks) < 25:
                assert time.monotonic() < end
                time.sleep(0.01)
        answers = [one.result().json() for one in waiting]
    ensemble = page.site.predictor._ensemble
    proba = ensemble.predict_proba([noise(seed) for seed in range(30)])
    for answer, expected in zip(answers, proba):
        assert list(answer["proba"].values()) == pytest.approx(expected, abs=1e-5)
    assert metric(page, "nonet_batch_images_sum") - before[1] == 30
    assert metric(page, "nonet_batch_images_count") - before[0] < 10
    assert metric(page, "nonet_predict_waiting") == 0


def test_if_too_many_wait_the_answer_says_when_to_try_again(page, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    with ThreadPoolExecutor(8) as pool:
        with page.site.predictor._turns:
            waiting = [pool.submit(page.predict, as_file(noise(0))) for _ in range(8)]
            end = time.monotonic() + 60
            while sum(one.done() for one in waiting) < 5:
                assert time.monotonic() < end
                time.sleep(0.01)
        answers = [one.result() for one in waiting]
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert page.predict(as_file(noise(0))).status_code == 200


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", as_file(noise(0))[:50], b"PK\x03\x04" + bytes(50)])
def test_what_is_not_an_image_is_refused_with_the_reason(page, data):
    answer = page.predict(data)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("The image ")
    assert page.site.predictor.num_waiting == 0


def test_what_is_too_large_is_refused(page, monkeypatch):
    assert page.predict(bytes(upload_files.MAX_FILE_BYTES + 1)).status_code == 413
    stream = io.BytesIO()
    Image.new("1", (7000, 7000)).save(stream, "PNG")
    answer = page.predict(stream.getvalue())
    assert answer.status_code == 422 and "40,000,000" in answer.json()["detail"]


def test_a_reader_may_predict_and_a_page_of_another_site_may_not(page):
    page.site.user = User("Cy", "reader")
    try:
        assert page.predict(as_file(noise(0))).status_code == 200
    finally:
        page.site.user = User("Ada", "admin")
    assert page.client.post("/api/predict", content=as_file(noise(0))).status_code == 403
    assert page.predict(as_file(noise(0)), Origin="http://evil.example").status_code == 403


def test_the_device_may_fail_once(page, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(page.site.predictor._ensemble, "score_prepared", lambda *about: 1 / 0)
        assert page.predict(as_file(noise(0))).status_code == 503
    assert page.predict(as_file(noise(0))).status_code == 200


def test_whoever_waits_gets_the_next_turn():
    """A thread that takes turn after turn, as a large upload does, lets in whoever waits before it gets another."""
    turns, taken = Turns(), []

    def take():
        with turns:
            taken.append("single")

    for _ in range(50):
        waiting = threading.Thread(target=take)
        with turns:
            waiting.start()
            while not turns._queue.locked():
                time.sleep(0.001)
        with turns:
            taken.append("upload")
        waiting.join()
    assert taken == ["single", "upload"] * 50


def test_readiness_and_metrics(page):
    assert page.client.get("/healthz").json() == {"status": "ok"}
    assert page.client.get("/readyz").json() == {"status": "ready"}
    number = page.begin("metrics")
    page.client.get("/nothing/at/all")
    page.client.get(f"/api/uploads/{number}")
    text = page.client.get("/metrics").text
    assert number not in text and "/nothing" not in text
    assert 'nonet_uploads{state="receiving"}' in text
    assert 'nonet_requests_total{method="GET",route="/api/uploads/{upload_id}",status="200"}' in text
    assert metric(page, "nonet_ready") == 1
    assert page.client.delete(f"/api/uploads/{number}", headers=HEADERS).status_code == 204


def test_until_the_networks_are_loaded_the_page_is_there_and_says_so(page, tmp_path):
    run = shutil.copytree(page.site.run.folder, tmp_path / "run")
    with predicting(run, start=False) as other:
        assert other.client.get("/healthz").status_code == 200
        assert other.client.get("/").status_code == 200
        assert other.client.get("/readyz").status_code == 503
        assert other.predict(as_file(noise(0))).status_code == 503


def test_networks_are_loaded_in_a_quiet_moment_or_when_somebody_asks_them(page, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_QUIET_S", 1000)
    monkeypatch.setattr(module, "_LATEST_S", 1000)
    run = shutil.copytree(page.site.run.folder, tmp_path / "run")
    with predicting(run, start=False) as other:
        other.site.predictor.start()
        assert other.client.get("/").status_code == 200
        assert not other.site.predictor.wait(0.5), "a page was asked for a moment ago"
        assert other.predict(as_file(noise(0))).status_code == 503
        assert other.site.predictor.wait(60)
        assert other.predict(as_file(noise(0))).status_code == 200


def test_networks_are_loaded_in_the_end_however_busy_the_page_is(page, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_QUIET_S", 1000)
    monkeypatch.setattr(module, "_LATEST_S", 0)
    run = shutil.copytree(page.site.run.folder, tmp_path / "run")
    with predicting(run, start=False) as other:
        other.site.predictor.start()
        assert other.site.predictor.wait(60)
