"""The page while another thread imports PyTorch, which some libraries take for ready as soon as they see its name."""

import subprocess
import sys
from pathlib import Path

import pytest

#: Asks for each page and file of a signed case while `torch` is a module without content; prints what failed.
SCRIPT = """
import re, sys, types
from pathlib import Path

sys.modules["torch"] = types.ModuleType("torch")
from helpers.reviews import open_page

page = open_page(Path(sys.argv[1]), [(f"{k}.png", "7", label) for k, label in enumerate(["SNE", "LY", "MO"])])
page.decide([0], "BL")
assert page.sign("seen").status_code == 200
cell = page.get("cells").json()[0]["id"]
known = {"case_id": page.case_id, "cell_id": cell, "kind": "fhir", "name": "gallery.js"}
asked = 0
for path in page.client.app.openapi()["paths"] | {"/": 0, "/cases/{case_id}": 0, "/cases/{case_id}/differential": 0}:
    names = re.findall(r"{(.+?)}", path)
    if set(names) <= set(known):
        answer = page.client.get(path.format(**known))
        asked += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            print(path, answer.status_code)
print("asked" if asked > 10 else path)
"""


def test_every_page_is_shown(tmp_path):
    pytest.importorskip("fhir.resources")
    where = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path], cwd=where, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "asked\n", done.stdout + done.stderr
