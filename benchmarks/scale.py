"""What do engines cost, and does cost grow with data? In this process, and on one, two and three Ray nodes.

    python benchmarks/scale.py

The nodes are processes of this machine, of one processor each, so more of them than processors cannot be faster: what
is measured is what Ray adds. Trains recipe `demo` on drawn cells, predicts shards of drawn cells, and writes
benchmarks/scale.md. Fifteen minutes on two free cores, most of them for the 100,000 and 200,000 images.
"""

import argparse
import contextlib
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from machine import machine_in_words
from memory import peak_mb

import nonet
from nonet.jobs.local import LocalEngine
from nonet.jobs.on_ray import RayEngine, import_ray
from nonet.jobs.tasks import Needs, Task
from nonet.synthetic.dataset import draw_dataset

HERE = Path(__file__).parent
SETTINGS = ["train.epochs=3"]
#: One small network a fold, for what does not depend on the networks.
TINY = [
    'models.architectures=["vit_mini"]',
    "models.image_size_px=32",
    "folds.num_folds=2",
    "train.epochs=1",
    "train.max_restarts=0",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 200_000], help="images")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3], help="of Ray")
    parser.add_argument("--out", type=Path, default=HERE / "scale.md")
    arguments = parser.parse_args()
    machine = machine_in_words()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        drawn = draw_dataset(work / "drawn", num_images=300, size_px=96)
        dataset = nonet.build_dataset(f"csv:{drawn / 'images.csv'}", work / "dataset")
        tiny = train(dataset, work / "tiny", settings=TINY)[0]
        nonet.predict(tiny, dataset.paths()[:1], out=work / "tiny-first", accelerator="cpu")  # converts the networks
        grown = [data_row(tiny, dataset, work, count) for count in arguments.counts]
        # A processor a process, here as on the nodes.
        os.environ |= {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
        run = train(dataset, work / "here")[0]
        nonet.predict(run, dataset.paths()[:1], out=work / "first", accelerator="cpu")
        shards = work / f"shards-{min(arguments.counts)}"
        rows = [engine_row("this process", run, dataset, shards, work / "0", LocalEngine(1), {})]
        for number in arguments.nodes:
            with nodes(number):
                label = f"Ray, {number} node{'s' if number > 1 else ''}"
                row = engine_row(label, run, dataset, shards, work / str(number), RayEngine(), {"on": "ray"})
            rows.append(row)
    arguments.out.write_text(page(rows, grown, machine), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


@contextlib.contextmanager
def nodes(number: int) -> Iterator[None]:
    """Run a Ray cluster of nodes of one processor on this machine, and be its driver."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
    try:
        for _ in range(number - 1):
            cluster.add_node(**small)
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def train(dataset: nonet.Dataset, out: Path, settings: list[str] = SETTINGS, **options: str) -> tuple[nonet.Run, float]:
    """Return a run of recipe `demo`, and the seconds that it took."""
    started = time.perf_counter()
    run = nonet.train("demo", dataset, out=out, settings=settings, accelerator="cpu", **options)
    return run, time.perf_counter() - started


def engine_row(
    label: str, run: nonet.Run, dataset: nonet.Dataset, shards: Path, work: Path, engine, options: dict[str, str]
) -> dict[str, object]:
    """Measure an engine: a task that does nothing, a training, and a prediction of shards, the second time."""
    work.mkdir()
    list(engine.run([Task("first", abs, (1,))], Needs()))
    empty = []
    for _ in range(5):
        started = time.perf_counter()
        list(engine.run([Task(str(number), abs, (1,)) for number in range(100)], Needs()))
        empty.append((time.perf_counter() - started) / 100)
    trained, seconds = train(dataset, work / "run", **options)
    num_members = len(list(trained.folder.glob("members/*/*/DONE")))
    rates = []
    for number in range(3):
        started = time.perf_counter()
        predictions = nonet.predict_shards(
            run, shards, out=work / f"out-{number}", views="none", accelerator="cpu", num_workers=1, **options
        )
        rates.append(predictions.num_images / (time.perf_counter() - started))
    row = {
        "label": label,
        "task_ms": 1e3 * statistics.median(empty),
        "members": 3600 * num_members / seconds,
        "rate": statistics.median(rates),
    }
    print(row)
    return row


def data_row(run: nonet.Run, dataset: nonet.Dataset, work: Path, count: int) -> tuple[int, float, float, float]:
    """Shard and predict so many images, the same ones again and again; return seconds of both and the peak in MB."""
    paths = [str(path) for path in dataset.paths()]
    table = work / f"images-{count}.csv"
    images = [f"{number:07d}.png" for number in range(count)]
    links = work / f"cells-{count}"
    links.mkdir()
    for number, image in enumerate(images):
        os.link(paths[number % len(paths)], links / image)
    pd.DataFrame({"path": [str(links / image) for image in images]}).to_csv(table, index=False)
    started = time.perf_counter()
    nonet.shard_images(table, out=work / f"shards-{count}", images_per_shard=512 if count < 5_000 else 8_192)
    sharded = time.perf_counter() - started
    command = ["predict", str(run), str(work / f"shards-{count}"), "--out", str(work / f"out-{count}")]
    command += ["--views", "none", "--accelerator", "cpu"]
    started = time.perf_counter()
    _, peak = peak_mb([sys.executable, "-m", "nonet", *command])
    predicted = time.perf_counter() - started
    print(f"{count:,} images: {sharded:.1f} s, {predicted:.1f} s, {peak:.0f} MB")
    return count, sharded, predicted, peak


def page(rows: list[dict], grown: list[tuple[int, float, float, float]], machine: str) -> str:
    first = rows[0]
    lines = [
        "# Engines, and cost against data",
        "",
        f"Made by `benchmarks/scale.py` on {machine}. Drawn cells of 96 px, no views. Ray's nodes are processes of "
        "this machine, of a processor each.",
        "",
        "## What an engine costs",
        "",
        "| engine | empty task, ms | members an hour | more a member, s | images/s | more per 1,000 images, s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        members, rate = row["members"], row["rate"]
        more = 3600 / members - 3600 / first["members"], 1000 / rate - 1000 / first["rate"]
        cells = [row["label"], f"{row['task_ms']:.1f}", f"{members:,.0f}", f"{more[0]:+.2f}", f"{rate:.0f}"]
        lines.append("| " + " | ".join([*cells, f"{more[1]:+.2f}"]) + " |")
    lines += [
        "",
        "Members: nine of recipe `demo`, 300 images, three epochs, with all that a run begins and ends with. Images: "
        "nine networks, 1,000 images in two shards, median of three, with loading the networks once a process. An "
        "empty task does nothing: of a hundred together. Without Ray, members are trained in the process that asks for "
        "them, while tasks and shards start a process each time; Ray keeps its processes, which import PyTorch first.",
        "",
        "## Cost against data",
        "",
        "Two networks of 32 px, all processors of the machine.",
        "",
        "| images | shards made, s | predicted, s | seconds per 1,000 images | times the images | times the seconds "
        "| peak of memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    before: tuple[int, float] | None = None
    for count, sharded, predicted, peak in grown:
        growth = ["", ""] if before is None else [f"{count / before[0]:.1f}", f"{predicted / before[1]:.1f}"]
        cells = [f"{count:,}", f"{sharded:.1f}", f"{predicted:.1f}", f"{1e3 * predicted / count:.2f}", *growth]
        lines.append("| " + " | ".join([*cells, f"{peak:.0f}"]) + " |")
        before = count, predicted
    lines += ["", "As a command, start included; memory with all processes that it starts.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
