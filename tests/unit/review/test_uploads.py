"""Uploads: files in, a case out; what is kept of them, what is refused, and what a kill leaves."""

import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from helpers.networks import with_random_weights
from helpers.odd_images import as_file
from helpers.reviews import predicting


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    """A run whose networks tell images apart. Shared: copy it before opening its page."""
    return with_random_weights(tiny_run, tmp_path_factory.mktemp("random") / "run")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained.folder, tmp_path / "run")


@pytest.fixture
def page(run):
    with predicting(run) as made:
        yield made


def picture(seed, side=40):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def zipped(files, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def test_files_and_a_zip_become_a_case_of_what_the_ensemble_says(page):
    number = page.begin("Müller <7>")
    assert page.send(number, "a.png", as_file(picture(0))).json() == {"num_images": 1, "refused": []}
    archive = zipped({"slide/b.png": as_file(picture(1)), "slide/c.bmp": as_file(picture(2), "BMP")})
    assert page.send(number, "slides.zip", archive).json() == {"num_images": 2, "refused": []}
    done = page.finish(number)
    assert (done["state"], done["num_images"], done["num_predicted"]) == ("done", 3, 3)
    cells = page.client.get(f"/api/cases/{done['case_id']}/cells").json()
    assert [cell["image"] for cell in cells] == ["a.png", "b.png", "c.bmp"]
    case = page.client.get(f"/api/cases/{done['case_id']}").json()
    assert (case["name"], case["num_cells"], case["added_by"]) == ("Müller <7>", 3, "Ada")
    ensemble = page.site.predictor._ensemble
    assert [cell["predicted"] for cell in cells] == ensemble.predict([picture(k) for k in range(3)])
    for place, cell in enumerate(cells):
        assert cell["proba"] == pytest.approx(
            dict(zip(ensemble.classes, ensemble.predict_proba([picture(place)])[0])), abs=1e-5
        )
        shown = page.client.get(f"/cells/{cell['id']}/image").content
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), picture(place))
