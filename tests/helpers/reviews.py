"""An application of the review page with two small cases, called as a browser on this machine calls it."""

import re
import time
from contextlib import contextmanager
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
    headers: dict = HEADERS

    def post(self, what, body=None, headers=None, case_id=None):
        headers = self.headers if headers is None else headers
        return self.client.post(f"/api/cases/{case_id or self.case_id}/{what}", json=body, headers=headers)

    def get(self, what, case_id=None):
        return self.client.get(f"/api/cases/{case_id or self.case_id}/{what}".rstrip("/"))

    def sign(self, comment=""):
        return self.post("sign", {"comment": comment, "version": self.get("").json()["version"]})

    def decide(self, places, label, **more):
        cells = self.get("cells").json()
        chosen = {str(cells[place]["id"]): cells[place]["version"] for place in places}
        return self.post("decisions", {"cells": chosen, "label": label} | more)

    def log_in(self, name, password=None):
        """Return the same page for somebody who logs in, as a browser of their own has it."""
        client = browser(self.client.app)
        body = {"name": name, "password": password or password_of(name)}
        answer = client.post("/api/login", json=body, headers=HEADERS)
        assert answer.status_code == 204, answer.text
        return self._replace(client=client, headers=HEADERS | {"X-Nonet": token_in(client.get("/").text)})


def password_of(name):
    return f"{name} likes cells"


def token_in(text):
    return re.search(r'name="nonet-token" content="(\w+)"', text).group(1)


def browser(app):
    from fastapi.testclient import TestClient

    return TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)


def open_page(folder: Path, cells, *, classes=CLASSES, reviewer="Ada", users=(), added_by="", clock=time.time):
    """Add cells to a run in the folder and return a Page of the first case; with (name, role) of users, people log in.

    Parameters
    ----------
    clock : callable
        By which sessions end.
    """
    from nonet.artifacts.run import Run
    from nonet.review.accounts import Accounts
    from nonet.review.app import make_app
    from nonet.review.cases import add_cases
    from nonet.review.roles import User
    from nonet.review.site import Site
    from nonet.review.store import Store

    run = Run(write_run(folder / "run"))
    store = Store(run.reviews)
    add_cases(store, run, write_reviewable(folder / "predictions", run.folder, cells, classes), added_by=added_by)
    accounts = Accounts(run.users, clock=clock) if users else None
    for name, role in users:
        accounts.add(name, password_of(name), role)
    everybody = None if users else User(reviewer, "admin")
    client = browser(make_app(Site(run, store, everybody, "run", accounts=accounts)))
    return Page(client, run, store, store.cases()[-1].id)


#: As a program sends them, whatever the port.
PROGRAM = {"X-Nonet": "1"}


class Predicting(NamedTuple):
    """A client of a page whose networks can predict, and the site behind it."""

    client: object
    site: object

    def begin(self, case="7"):
        """Begin an upload and return its id."""
        answer = self.client.post("/api/uploads", json={"case": case}, headers=PROGRAM)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def send(self, number, name, data):
        """Send a file."""
        return self.client.put(f"/api/uploads/{number}/files", params={"name": name}, content=data, headers=PROGRAM)

    def status(self, number):
        """Return an upload as it stands."""
        return self.client.get(f"/api/uploads/{number}").json()

    def finish(self, number, seconds=120):
        """Have an upload predicted, wait until it is, and return it as it stands then."""
        answer = self.client.post(f"/api/uploads/{number}/predict", headers=PROGRAM)
        assert answer.status_code == 200, answer.text
        end = time.monotonic() + seconds
        while (found := self.status(number))["state"] == "predicting":
            assert time.monotonic() < end
            time.sleep(0.02)
        return found

    def predict(self, data, **headers):
        """Predict one image."""
        return self.client.post("/api/predict", content=data, headers=PROGRAM | headers)


def make_site(run, *, user="Ada", role="admin"):
    """A site of a run folder, whose background work is not started."""
    from nonet.artifacts.ensemble_file import EnsembleFile
    from nonet.artifacts.run import Run
    from nonet.review.roles import User
    from nonet.review.site import Site
    from nonet.review.store import Store

    run = Run(run)
    store = Store(run.reviews)
    store.classes(EnsembleFile.read(run).classes)
    return Site(run, store, User(user, role), "run", accelerator="cpu")


@contextmanager
def predicting(run, *, start=True, **options):
    """Yield a Predicting page of a trained run; without `start`, nothing is predicted."""
    from fastapi.testclient import TestClient

    from nonet.review.app import make_app

    site = make_site(run, **options)
    if start:
        site.predictor.want()
        site.start()
        assert site.predictor.wait(60), site.predictor.problem
    try:
        with TestClient(make_app(site), base_url="http://127.0.0.1:8765") as client:  # one event loop for all
            yield Predicting(client, site)
    finally:
        site.stop()
