"""How many people can one page serve? Fifty clients at once on loopback, against `nonet serve` of a small trained run.

    python benchmarks/serve.py

Draws 300 cells, trains recipe `demo` on them for two epochs, starts `nonet serve`, and lets fifty clients predict
single images and decide on cells for a bounded time. A client that is told to wait (429) waits as long as it is told
and tries again. Writes benchmarks/serve.md. Takes about three minutes.
"""

import argparse
import asyncio
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from machine import machine_in_words
from PIL import Image

import nonet
from nonet.synthetic.dataset import draw_cell, draw_dataset

HERE = Path(__file__).parent
HEADERS = {"X-Nonet": "1"}
SIZE_PX, NUM_CELLS, NUM_FILES = 96, 300, 40
#: Of the clients, those that review; the others predict.
NUM_REVIEWERS = 10
#: Images sent at the same moment afterwards: more than may wait.
BURST = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "serve.md")
    parser.add_argument("--run", type=Path, help="a trained run to serve (default: train one)")
    parser.add_argument("--clients", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="(default: %(default)s)")
    arguments = parser.parse_args()
    machine = machine_in_words()  # before this program makes it busy
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or train(Path(folder))
        rows = asyncio.run(measure(run, Path(folder), arguments))
    arguments.out.write_text(report(rows, machine, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def train(folder: Path) -> Path:
    """Train recipe `demo` on drawn cells, and return the run; how well it predicts does not matter here."""
    drawn = draw_dataset(folder / "drawn", num_images=NUM_CELLS, size_px=SIZE_PX)
    dataset = nonet.build_dataset(f"csv:{drawn / 'images.csv'}", folder / "dataset")
    return nonet.train("demo", dataset, out=folder / "run", settings=["train.epochs=2"], accelerator="cpu").folder


def draw(number: int) -> bytes:
    """Return a PNG of a drawn cell."""
    stream = io.BytesIO()
    Image.fromarray(draw_cell(("SNE", "LY", "MO", "EO")[number % 4], seed=number, size_px=SIZE_PX)).save(stream, "PNG")
    return stream.getvalue()


async def measure(run: Path, folder: Path, arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Serve the run, and return (what, how much) pairs."""
    files = [draw(number) for number in range(NUM_FILES)]
    command = [
        sys.executable,
        "-m",
        "nonet",
        "serve",
        str(run),
        "--port",
        "0",
        "--accelerator",
        "cpu",
        "--reviewer",
        "A",
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found.group() for line in process.stderr if (found := re.search(r"http://\S+", line)))
        limits = httpx.Limits(max_connections=arguments.clients + BURST)
        async with httpx.AsyncClient(base_url=address, headers=HEADERS, timeout=300, limits=limits) as client:
            healthy, ready = [await until(client, path) - began for path in ("/healthz", "/readyz")]
            loaded = memory(process)
            cells = await upload(client, files)
            seen = Seen()
            end = time.perf_counter() + arguments.seconds
            reviewers = [review(client, cells, number, end, seen) for number in range(NUM_REVIEWERS)]
            others = [predict(client, files, number, end, seen) for number in range(arguments.clients - NUM_REVIEWERS)]
            started = time.perf_counter()
            await asyncio.gather(*reviewers, *others)
            seconds = time.perf_counter() - started
            burst = Seen()
            await asyncio.gather(*[predict(client, files, number, 0, burst) for number in range(BURST)])
        return rows_of(seen, burst, seconds, healthy, ready, loaded, memory(process))
    finally:
        process.kill()
        process.communicate()


class Seen:
    """What clients saw."""

    def __init__(self) -> None:
        self.predictions: list[float] = []
        self.decisions: list[float] = []
        self.num_busy = self.num_retried = self.num_errors = 0


async def until(client: httpx.AsyncClient, path: str) -> float:
    """Wait for an address to answer 200, and return when it did."""
    while True:
        try:
            if (await client.get(path)).status_code == 200:
                return time.perf_counter()
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.02)


async def upload(client: httpx.AsyncClient, files: list[bytes]) -> tuple[int, list[dict]]:
    """Upload a case, and return its id and cells."""
    number = (await client.post("/api/uploads", json={"case": "drawn"})).json()["id"]
    for place, data in enumerate(files):
        (await client.put(f"/api/uploads/{number}/files?name={place}.png", content=data)).raise_for_status()
    await client.post(f"/api/uploads/{number}/predict")
    while (found := (await client.get(f"/api/uploads/{number}")).json())["state"] != "done":
        await asyncio.sleep(0.2)
    return found["case_id"], (await client.get(f"/api/cases/{found['case_id']}/cells")).json()


async def predict(client: httpx.AsyncClient, files: list[bytes], number: int, end: float, seen: Seen) -> None:
    """Predict image after image, at least one; time each from its first try to its answer."""
    is_first = True
    while is_first or time.perf_counter() < end:
        is_first, began, tries = False, time.perf_counter(), 0
        while True:
            answer = await client.post("/api/predict", content=files[number % len(files)])
            if answer.status_code != 429:
                break
            tries += 1
            await asyncio.sleep(int(answer.headers["retry-after"]))
        seen.num_busy += tries
        seen.num_retried += tries > 0 and answer.status_code == 200
        if answer.status_code == 200:
            seen.predictions.append(time.perf_counter() - began)
        else:
            seen.num_errors += 1
        number += 1


async def review(client: httpx.AsyncClient, cells: tuple[int, list[dict]], number: int, end: float, seen: Seen) -> None:
    """Decide on cells of one's own, two a second, as a quick person would."""
    case, own = cells[0], cells[1][number::NUM_REVIEWERS]
    versions = {cell["id"]: cell["version"] for cell in own}
    place = 0
    while time.perf_counter() < end:
        cell = own[place % len(own)]
        body = {"cells": {str(cell["id"]): versions[cell["id"]]}, "label": ("LY", "MO")[place // len(own) % 2]}
        began = time.perf_counter()
        answer = await client.post(f"/api/cases/{case}/decisions", json=body)
        if answer.status_code == 200:
            seen.decisions.append(time.perf_counter() - began)
            versions[cell["id"]] = answer.json()["cells"][0]["version"]
        else:
            seen.num_errors += 1
        place += 1
        await asyncio.sleep(0.5)


def memory(process: subprocess.Popen) -> float:
    """Return the memory of a process in MB."""
    return psutil.Process(process.pid).memory_info().rss / 1e6


def rows_of(seen: Seen, burst: Seen, seconds: float, healthy: float, ready: float, loaded: float, after: float) -> list:
    def times(values: list[float]) -> str:
        middle, high = 1000 * np.quantile(values, (0.5, 0.99))
        return f"{middle:,.0f} / {high:,.0f} ms"

    def busy(seen: Seen) -> str:
        tries = len(seen.predictions) + seen.num_busy
        return f"{seen.num_busy:,} of {tries:,} ({seen.num_busy / tries:.0%}), after which {seen.num_retried:,} images"

    return [
        ("start to /healthz", f"{healthy:.1f} s"),
        ("start to /readyz", f"{ready:.1f} s"),
        (f"predict one image, {len(seen.predictions):,} times: p50 / p99", times(seen.predictions)),
        ("images predicted per second", f"{len(seen.predictions) / seconds:.0f}"),
        (f"decide on one cell meanwhile, {len(seen.decisions):,} times: p50 / p99", times(seen.decisions)),
        ("answers 429", f"{busy(seen)} were predicted"),
        (f"{BURST} images at the same moment: p50 / p99", times(burst.predictions)),
        ("answers 429 to these", f"{busy(burst)} were predicted"),
        (f"images of these {BURST} that were predicted in the end", f"{len(burst.predictions):,}"),
        ("other errors", f"{seen.num_errors + burst.num_errors:,}"),
        ("memory once loaded, and at the end", f"{loaded:,.0f} and {after:,.0f} MB"),
    ]


def report(rows: list[tuple[str, str]], machine: str, arguments: argparse.Namespace) -> str:
    trained = (
        f"the run {arguments.run.name}"
        if arguments.run
        else f"recipe `demo` (nine tiny networks, eight views), trained on {NUM_CELLS} drawn cells"
    )
    about = (
        f"Made by `benchmarks/serve.py` on {machine}: {arguments.clients} clients at once for {arguments.seconds} s, "
        f"{NUM_REVIEWERS} of which decide on two cells a second, and the others predict drawn cells of "
        f"{SIZE_PX} × {SIZE_PX} px one after another. Program and clients share the machine. Served: {trained}."
    )
    lines = [f"| {what} | {measured} |" for what, measured in rows]
    return "\n".join(["# Serving", "", about, "", "| what | measured |", "|---|---|", *lines, ""])


if __name__ == "__main__":
    main()
