"""The page while another thread imports PyTorch, which some libraries take for ready as soon as they see its name."""

import subprocess
import sys
from pathlib import Path

#: Asks for each page and file of a signed case while `torch` is a module without content; prints each path's status.
SCRIPT = """
import re, sys, types
from pathlib import Path

sys.modules["torch"] = types.ModuleType("torch")
from helpers.reviews import open_page

page = open_page(Path(sys.argv[1]), [(f"{k}.png", "7", label) for k, label in enumerate(["SNE", "LY", "MO"])])
page.decide([0], "BL")
assert page.sign("seen").status_code == 200
known = {"case_id": page.case_id, "cell_id": page.get("cells").json()[0]["id"]}
kinds = {"kind": ["csv", "json", "fhir"], "name": ["model_card", "datasheet"]}
for route in page.client.app.routes:
    names = set(re.findall(r"{(.+?)}", route.path))
    if "GET" not in (getattr(route, "methods", None) or ()) or not names <= {*known, *kinds}:
        continue
    for one in next((kinds[name] for name in names & set(kinds)), [""]):
        path = route.path.format(**known, **dict.fromkeys(kinds, one))
        print(path, page.client.get(path).status_code)
"""


def test_every_page_is_shown(tmp_path):
    where = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path], cwd=where, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    status = {path: int(number) for path, number in (line.split() for line in done.stdout.splitlines())}
    assert {status["/cases/1/differential"], status["/api/cases/1/differential.csv"], status["/run"]} == {200}
    assert [path for path, number in status.items() if number >= 500 and number != 503] == [], "503: not loaded yet"
