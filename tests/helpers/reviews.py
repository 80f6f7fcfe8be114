"""An application of the review page with two small cases, called as a browser on this machine calls it."""

from pathlib import Path
from typing import NamedTuple

from helpers.prediction_folders import CLASSES, write_reviewable, write_run

HEADERS = {"X-Nonet": "1", "Origin": "http://127.0.0.1:8765"}


class Page(NamedTuple):
    """A client of the page, its run, the store behind it, and the number of the case "7"."""

    client: object
    run: object
    store: object
    case_id: int

    def post(self, what, body=None, headers=HEADERS, case_id=None):
        return self.client.post(f"/api/cases/{case_id or self.case_id}/{what}", json=body, headers=headers)

    def get(self, what, case_id=None):
        return self.client.get(f"/api/cases/{case_id or self.case_id}/{what}".rstrip("/"))

    def sign(self, comment=""):
        return self.post("sign", {"comment": comment, "version": self.get("").json()["version"]})

    def decide(self, places, label, **more):
        cells = self.get("cells").json()
        chosen = {str(cells[place]["id"]): cells[place]["version"] for place in places}
        return self.post("decisions", {"cells": chosen, "label": label} | more)


def open_page(folder: Path, cells, *, classes=CLASSES, reviewer="Ada"):
    """Add cells to a run in the folder and return a Page of the first case."""
    from fastapi.testclient import TestClient

    from nonet.artifacts.run import Run
    from nonet.review.access import User
    from nonet.review.app import make_app
    from nonet.review.cases import add_cases
    from nonet.review.site import Site
    from nonet.review.store import Store

    run = Run(write_run(folder / "run"))
    store = Store(run.reviews)
    add_cases(store, run, write_reviewable(folder / "predictions", run.folder, cells, classes))
    app = make_app(Site(run, store, User(reviewer, "admin"), "run"))
    client = TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)
    return Page(client, run, store, store.cases()[-1].id)
