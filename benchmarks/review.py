"""How many keys and seconds does a review take? A scripted reviewer who knows the truth, in a real browser.

    python benchmarks/review.py
    python benchmarks/review.py --demo demo     # the cases of a finished `nonet demo` as well

Draws a case of 400 cells, of which 80 % are named rightly, opens the page of `nonet serve` in headless Chromium, and
corrects, accepts and signs the case with the keyboard alone. Each key is timed from the browser's event to the paint
after it. Writes benchmarks/review.md. Needs Chromium and the package playwright; takes a minute or two.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from machine import machine_in_words
from PIL import Image
from sklearn.metrics import roc_auc_score

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.integrity import write_sealed
from nonet.cells import CELLS, CLASSES, UNIDENTIFIED
from nonet.review.keys import assign_letters
from nonet.synthetic.appearance import patient_appearance
from nonet.synthetic.dataset import draw_cell

HERE = Path(__file__).parent
#: Cells of a blood film with a left shift; they sum to 400.
COUNTS = {"SNE": 182, "LY": 92, "MO": 32, "BNE": 28, "EO": 16, "MMY": 12, "MY": 10, "VLY": 10, "BL": 8, "BA": 4}
COUNTS |= {"PMY": 3, "PC": 2, "PLY": 1}
ACCURACY, SHARE_UNIDENTIFIED, SIZE_PX = 0.8, 0.04, 96
#: Between keys: as a person who types quickly.
PAUSE_S = 0.12
#: What each key costs from event to paint, in ms; and which cell is where, in the grid's own columns.
TIMING = """() => {
  window.paints = [];
  document.addEventListener("keydown", (event) => {
    const began = event.timeStamp;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.paints.push(performance.now() - began);
      channel.port2.postMessage(0);
    });
  }, true);
}"""
SECTION = """() => {
  const tile = document.querySelector(".tile.current");
  return [...tile.closest("section").querySelectorAll(".tile")].map((each) => {
    const box = each.getBoundingClientRect();
    return [Number(each.dataset.id), Math.round(box.left), Math.round(box.top), each.classList.contains("decided"),
      each === tile];
  });
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "review.md")
    parser.add_argument("--rounds", type=int, default=3, help="cases reviewed (default: %(default)s)")
    parser.add_argument("--demo", type=Path, help='folder of a finished "nonet demo", whose cases are reviewed too')
    arguments = parser.parse_args()
    machine, rows, demo = machine_in_words(), [], []
    for seed in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), seed))
        print(rows[-1], flush=True)
    if arguments.demo is not None:
        demo = review_demo(arguments.demo)
    arguments.out.write_text(report(rows, machine) + demo_report(demo), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def make_case(folder: Path, seed: int = 0, counts: dict[str, int] | None = None) -> dict[str, str]:
    """Write a run without networks and the predictions of a drawn case; return image → true class.

    Wrong names are those of a neighbour in the order of maturation, and less confident than right ones.
    """
    rng, appearance = np.random.default_rng(seed), patient_appearance(seed)
    truth = rng.permutation([code for code, num in (counts or COUNTS).items() for _ in range(num)])
    wrong = np.zeros(len(truth), dtype=bool)
    wrong[rng.permutation(len(truth))[: round((1 - ACCURACY) * len(truth))]] = True
    best = [_neighbour(code, rng) if is_wrong else str(code) for code, is_wrong in zip(truth, wrong)]
    confidence = np.where(wrong, rng.beta(5.5, 2.6, len(truth)), rng.beta(9, 1.6, len(truth)))
    doubtful = confidence <= np.quantile(confidence, SHARE_UNIDENTIFIED)
    run, predictions = folder / "run", folder / "predictions"
    (predictions / "images").mkdir(parents=True)
    run.mkdir()
    (run / "recipe.toml").write_text('name = "drawn"\n')
    rows, paths = [], []
    for k, code in enumerate(truth):
        path = predictions / "images" / f"{k:03d}.png"
        picture = draw_cell(str(code), seed=1000 * seed + k, size_px=SIZE_PX, patient=appearance)
        Image.fromarray(picture).save(path)
        paths.append(str(path))
        proba = dict.fromkeys(CLASSES, (1 - confidence[k]) / (len(CLASSES) - 1)) | {best[k]: confidence[k]}
        label, reason = (UNIDENTIFIED, "doubtful") if doubtful[k] else (best[k], "")
        facts = {"image": path.name, "case": f"drawn {seed}", "label": label, "best": best[k], "reason": reason}
        facts |= {"confidence": confidence[k], "set": "", "agreement": 1.0}
        rows.append(facts | {f"p_{each}": proba[each] for each in CLASSES} | {"note": "", "error": ""})
    table = pd.DataFrame(rows)
    write_csv(predictions / "predictions.csv", table)
    table[["image"]].assign(path=paths).to_parquet(predictions / "logits.parquet")
    write_sealed(predictions / "plan.json", {"run": str(run.resolve()), "finished": True})
    return dict(zip(table["image"], map(str, truth)))


def _neighbour(code: str, rng: np.random.Generator) -> str:
    codes = [*CELLS]
    place = codes.index(code)
    steps = [step for step in (-2, -1, -1, -1, 1, 1, 1, 2) if 0 <= place + step < len(codes)]
    return codes[place + int(rng.choice(steps))]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """Run `nonet serve` on a free port, and yield the page's address."""
    command = [sys.executable, "-m", "nonet", "serve", folder / "run", "--port", "0", "--reviewer", "A. Lee", *options]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+", line):
                yield found.group()
                break
        else:
            raise RuntimeError(f"nonet serve ended with status {process.wait()}")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def measured_start(folder: Path, *options: str) -> Iterator[tuple[str, float]]:
    """Yield the page's address as `served` does, and the seconds until it was known."""
    began = time.perf_counter()
    with served(folder, *options) as address:
        yield address, time.perf_counter() - began


@contextmanager
def opened_browser() -> Iterator:
    """Yield a headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def wait_for(page, expression: str) -> None:
    """Wait until JavaScript is true; Playwright's own function is stopped by the page's content security policy."""
    while not page.evaluate(expression):
        time.sleep(0.005)


class Keyboard:
    """A browser's keyboard that counts the keys."""

    def __init__(self, page):
        self.page, self.pressed = page, Counter()

    def press(self, key: str, kind: str) -> None:
        self.page.keyboard.press(key)
        self.pressed[kind] += 1
        time.sleep(PAUSE_S)


def review(page, truth: dict[str, str], case_id: int = 1) -> Counter:
    """Correct and accept a case by keys, section by section; return the keys by kind."""
    keys, letters = Keyboard(page), assign_letters(CLASSES)
    cells = {cell["id"]: cell for cell in page.evaluate(f"fetch('/api/cases/{case_id}/cells').then((r) => r.json())")}
    for _ in range(10_000):
        section = page.evaluate(SECTION)
        here = next(k for k, tile in enumerate(section) if tile[4])
        wrong = [k for k, (cell, *_, decided, _) in enumerate(section) if not decided and _is_wrong(cells[cell], truth)]
        if wrong:
            target, way = _nearest(section, here, wrong)
            for key in way:
                keys.press(key, "arrows")
            cell = cells[section[target][0]]
            true = truth[cell["image"]]
            suggestion = cell["best"] if cell["label"] == UNIDENTIFIED and cell["reason"] == "doubtful" else ""
            keys.press("Space" if suggestion == true else letters[true], "letters")
            continue
        keys.press("Enter", "accepts")
        if page.evaluate("document.activeElement.id === 'next'"):
            return keys.pressed
    raise RuntimeError("the review does not end")


def sign(page) -> None:
    """Go on to the differential, whose link has the focus once all cells are looked at, and sign it: two keys."""
    wait_for(page, "!document.getElementById('left').textContent.includes('saving')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".sign form[data-action=sign] button:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Signed by A. Lee")


def review_demo(demo: Path, num_cases: int = 3) -> list[dict]:
    """Review and sign the largest cases of a demo by keys alone, from the list of cases on, in a copy of its run."""
    truth = pd.read_csv(demo / "drawn" / "test" / "truth.csv").set_index("path")["true_label"].to_dict()
    table = pd.read_csv(demo / "predictions" / "predictions.csv", keep_default_na=False)
    cases = table["case"].value_counts().index[:num_cases]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        shutil.copytree(demo / "run", run, ignore=shutil.ignore_patterns("review"))
        with opened_browser() as browser, served(Path(name), "--cases", str(demo / "predictions")) as address:
            for case in cases:
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.goto(address)
                began, keys = time.perf_counter(), Keyboard(page)
                while page.evaluate("document.activeElement.textContent") != case:
                    keys.press("Tab", "list")
                keys.press("Enter", "list")
                page.wait_for_selector("body[data-ready]")
                pressed = review(page, truth, int(page.url.rsplit("/", 1)[1]))
                sign(page)
                part = table[table["case"] == case]
                wrong = int((part["label"] != part["image"].map(truth)).sum())
                total = keys.pressed.total() + pressed.total() + 2
                rows.append({"case": case, "cells": len(part), "wrong": wrong, "keys": total})
                rows[-1]["seconds"] = time.perf_counter() - began
                print(rows[-1], flush=True)
                page.close()
    return rows


def _is_wrong(cell: dict, truth: dict[str, str]) -> bool:
    return cell["label"] != truth[cell["image"]]


def _nearest(section: list, here: int, targets: list[int]) -> tuple[int, list[str]]:
    """Return the wrong cell that the fewest arrows lead to, and these: along the row, or down and up within columns."""
    width = sum(tile[2] == section[0][2] for tile in section)
    ways = {here: []}
    queue = [here]
    for place in queue:
        if place in targets:
            return place, ways[place]
        for key, step in (("ArrowRight", 1), ("ArrowDown", width), ("ArrowLeft", -1), ("ArrowUp", -width)):
            there = place + step
            if 0 <= there < len(section) and there not in ways:
                ways[there] = [*ways[place], key]
                queue.append(there)
    raise RuntimeError("no way to a wrong cell")


def measure(folder: Path, seed: int) -> dict:
    """Review a case, sign it, and return what it took."""
    truth = make_case(folder, seed)
    table = pd.read_csv(folder / "predictions" / "predictions.csv", keep_default_na=False)
    is_wrong = table["label"].to_numpy() != table["image"].map(truth).to_numpy()
    is_right = table["best"].to_numpy() == table["image"].map(truth).to_numpy()
    options = ("--cases", str(folder / "predictions"))
    with opened_browser() as browser, measured_start(folder, *options) as (address, start_s):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        opening = time.perf_counter()
        page.goto(f"{address}/cases/1")
        page.wait_for_selector("body[data-ready]")
        wait_for(
            page,
            "[...document.images].filter((one) => one.offsetParent && one.getBoundingClientRect().top < innerHeight)"
            ".every((one) => one.complete && one.naturalWidth)",
        )
        first_screen_s = time.perf_counter() - opening
        page.evaluate(TIMING)
        began = time.perf_counter()
        pressed = review(page, truth)
        paints = page.evaluate("window.paints")
        sign(page)
        took_s = time.perf_counter() - began
        made = json.loads(page.evaluate("fetch('/api/cases/1/differential.json').then((r) => r.text())"))
    counted = {row["key"]: row["count"] for row in made["shares"] if row["part"] == "class" and row["count"]}
    assert counted == COUNTS, counted
    corrections = pressed["arrows"] + pressed["letters"]
    return {
        "wrong": int(is_wrong.sum()),
        "auroc": roc_auc_score(is_right, table["confidence"]),
        "arrows": pressed["arrows"],
        "letters": pressed["letters"],
        "accepts": pressed["accepts"],
        "keys": pressed.total() + 2,
        "keys_per_wrong": corrections / is_wrong.sum(),
        "p50": statistics.median(paints),
        "p95": float(np.quantile(paints, 0.95)),
        "largest": max(paints),
        "first_screen_s": first_screen_s,
        "start_s": start_s,
        "took_s": took_s,
    }


def report(rows: list[dict], machine: str) -> str:
    """Return the results as Markdown."""
    table = pd.DataFrame(rows)
    lines = [
        "# Reviewing a case: keys and milliseconds",
        "",
        "Made by `python benchmarks/review.py`. A scripted reviewer, who knows the truth, corrects a case of "
        f"{sum(COUNTS.values())} drawn cells by keys alone and signs it, in headless Chromium at 1280 × 800.",
        f"{100 * ACCURACY:.0f} % of the cells are named rightly, {100 * SHARE_UNIDENTIFIED:.0f} % are unidentified. "
        "Confidence is simulated: it tells right names from wrong ones with an area under the ROC curve of "
        f"{table['auroc'].mean():.2f}. {1000 * PAUSE_S:.0f} ms lie between keys. "
        f"Browser and program share one machine: {machine}.",
        "",
        "| case | cells to correct | arrows | letters and Space | Enter | keys in all | keys per corrected cell | "
        "key to paint p50, p95, largest (ms) | first screen (s) | whole case (s) | "
        "start of nonet serve with a new case (s) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(rows, 1):
        lines.append(
            f"| {number} | {row['wrong']} | {row['arrows']} | {row['letters']} | {row['accepts']} | {row['keys']} | "
            f"{row['keys_per_wrong']:.2f} | {row['p50']:.0f}, {row['p95']:.0f}, {row['largest']:.0f} | "
            f"{row['first_screen_s']:.2f} | {row['took_s']:.0f} | {row['start_s']:.1f} |"
        )
    lines += [
        "",
        "Keys in all include two for opening the differential and signing. Keys per corrected cell are arrows, "
        "letters and Space. The reviewer goes to the nearest wrong cell of a class, and accepts the rest of the class "
        "once none is left; a person who has to look for the wrong ones needs more time, and no fewer keys. First "
        "screen: from opening the page of the case until every visible cell is drawn.",
    ]
    return "\n".join(lines) + "\n"


def demo_report(rows: list[dict]) -> str:
    """Return the results of a demo's cases as Markdown; "" without any."""
    if not rows:
        return ""
    lines = [
        "",
        "## The cases of the demo",
        "",
        "`nonet demo demo`, then `python benchmarks/review.py --demo demo`: its largest cases, from the list to "
        "the signature, by keys alone. The demo's networks are tiny and its test images corrupted on purpose, so more "
        "cells have to be corrected than above.",
        "",
        "| case | cells | to correct | keys in all | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(f"| {row['case']} | {row['cells']} | {row['wrong']} | {row['keys']} | {row['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
