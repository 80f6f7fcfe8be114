"""The panel of a cell: votes, where the networks looked, and the labelled cells most like it."""

import io
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from helpers.reviews import open_page, predicting
from nonet.data.manifest import Dataset


@pytest.fixture(scope="module")
def looked_at(tiny_run, tmp_path_factory):
    """A page with one case: a held-out image of the run itself. Yields it, the image's row, and its cell."""
    folder = shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("looked") / "run")
    with predicting(folder) as page:
        dataset = Dataset.open(page.site.inspections._images._dataset.folder)
        row = dataset.manifest.iloc[0]
        number = page.begin()
        page.send(number, "a.png", dataset.image_path(row["image_id"]).read_bytes())
        case = page.finish(number)["case_id"]
        yield page, row, page.client.get(f"/api/cases/{case}/cells").json()[0]


def test_every_network_votes(looked_at):
    page, _, cell = looked_at
    answer = page.client.get(f"/api/cells/{cell['id']}/inspection").json()
    assert len(answer["votes"]) == page.site.predictor.num_members
    assert {vote["label"] for vote in answer["votes"]} <= set(page.site.classes)
    share = np.mean([vote["label"] == cell["best"] for vote in answer["votes"]])
    assert share == pytest.approx(cell["agreement"])
    assert answer["heat_of"] == cell["best"]


def test_an_image_of_the_run_is_most_like_itself(looked_at):
    page, row, cell = looked_at
    near = page.client.get(f"/api/cells/{cell['id']}/inspection").json()["nearest"]
    assert len(near) == 3
    assert near[0]["label"] == row["label"] and near[0]["similarity"] > 0.99
    assert [one["similarity"] for one in near] == sorted((one["similarity"] for one in near), reverse=True)
    picture = page.client.get(f"/cells/{cell['id']}/nearest/0")
    own = page.client.get(f"/cells/{cell['id']}/thumbnail")
    assert picture.headers["content-type"] == "image/jpeg" and picture.content == own.content
    for place in ("3", "-1", "x"):
        assert page.client.get(f"/cells/{cell['id']}/nearest/{place}").status_code == 404


def test_the_map_is_as_large_as_the_image_and_lets_it_through(looked_at):
    page, _, cell = looked_at
    heat = Image.open(io.BytesIO(page.client.get(f"/cells/{cell['id']}/heat").content))
    image = Image.open(io.BytesIO(page.client.get(f"/cells/{cell['id']}/image").content))
    assert heat.mode == "RGBA" and heat.size == image.size
    assert 100 < np.asarray(heat)[..., 3].max() < 200


def test_before_the_networks_are_loaded_the_answer_says_so(tmp_path):
    page = open_page(tmp_path, [("a.png", "7", "SNE"), ("b.png", "7", "")])
    first, second = page.store.cells(page.case_id)
    for path in (f"/api/cells/{first.id}/inspection", f"/cells/{first.id}/heat", f"/cells/{first.id}/nearest/0"):
        assert page.client.get(path).status_code == 503, path
    assert page.client.get(f"/api/cells/{second.id}/inspection").status_code == 404, "an unreadable image"
    assert page.client.get("/api/cells/999/inspection").status_code == 404


def test_many_questions_at_once_leave_room_for_the_other_pages(looked_at, monkeypatch):
    page, _, cell = looked_at
    inspect, asked, goes_on = page.site.predictor.inspect, [], threading.Event()

    def wait(*about):
        asked.append(about)
        assert goes_on.wait(60)
        return inspect(*about)

    monkeypatch.setattr(page.site.predictor, "inspect", wait)
    page.site.inspections._inspect.cache_clear()
    with ThreadPoolExecutor(30) as pool:
        answers = [pool.submit(page.client.get, f"/cells/{cell['id']}/heat") for _ in range(30)]
        try:
            refused = {each.result().status_code for each in islice(as_completed(answers, timeout=30), 10)}
            assert refused == {429}
            assert page.client.get("/healthz").status_code == 200
        finally:
            goes_on.set()
    assert Counter(each.result().status_code for each in answers)[200] == 16
    assert len(asked) == 1, "the same cell is looked at once, however many ask"
