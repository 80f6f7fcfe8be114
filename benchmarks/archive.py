"""What do 100 million cells take? Arithmetic from measured rates, and a simulation of slow and lost machines.

    python benchmarks/archive.py

Reads the rates of benchmarks/predict.md, and writes benchmarks/archive.md. Takes seconds. Nothing is predicted: the
rates are those of the machine that predict.md was made on, and the shares of slow and lost machines are assumptions,
which options change.
"""

import argparse
import heapq
import re
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NUM_CORES = 2  # of the machine of predict.md
SHARD_SIZES = (1_000, 10_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000_000)
    parser.add_argument("--kilobytes", type=float, default=20, help="of a cell's file (default: %(default)s)")
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour (default: %(default)s)")
    parser.add_argument("--machines", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--cores", type=int, default=16, help="of a machine (default: %(default)s)")
    parser.add_argument("--slow", type=float, default=0.05, help="share of shards that take three times as long")
    parser.add_argument("--hours-between-losses", type=float, default=4, help="of one machine (default: %(default)s)")
    parser.add_argument("--minutes-away", type=float, default=10, help="until a lost machine is back")
    parser.add_argument("--out", type=Path, default=HERE / "archive.md")
    arguments = parser.parse_args()
    rates = read_rates(HERE / "predict.md")
    fastest = max(rates.values())
    simulated = [simulate(size, fastest / NUM_CORES * arguments.cores, arguments) for size in SHARD_SIZES]
    arguments.out.write_text(page(rates, simulated, arguments), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def read_rates(file: Path) -> dict[str, float]:
    """Return images per second by way of predicting, from the table of predict.md."""
    rows = re.findall(r"^\| ([^|]+?) \| [\d.]+ \| ([\d.]+) \|", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: float(rate) for name, rate in rows}


def simulate(shard_size: int, rate: float, arguments: argparse.Namespace, seed: int = 0) -> dict[str, float]:
    """Predict all shards on machines of which some are slow and some are lost; return hours and what was lost.

    A machine takes a shard when it is free. A shard whose machine is lost is run again from its beginning by the next
    free machine; a shard is the most that is lost.
    """
    rng = np.random.default_rng(seed)
    num_shards = -(-arguments.cells // shard_size)
    ideal = arguments.cells / rate / arguments.machines / 3600
    hours = shard_size / rate / 3600 * rng.lognormal(sigma=0.1, size=num_shards)
    hours[rng.random(num_shards) < arguments.slow] *= 3
    waiting = list(hours[::-1])
    free = [(0.0, rng.exponential(arguments.hours_between_losses), number) for number in range(arguments.machines)]
    heapq.heapify(free)
    end = lost = 0.0
    num_losses = 0
    while waiting:
        now, next_loss, number = heapq.heappop(free)
        duration = waiting.pop()
        if now + duration > next_loss:
            lost += max(next_loss - now, 0)
            num_losses += 1
            waiting.append(duration)
            back = max(next_loss, now) + arguments.minutes_away / 60
            heapq.heappush(free, (back, back + rng.exponential(arguments.hours_between_losses), number))
            continue
        end = max(end, now + duration)
        heapq.heappush(free, (now + duration, next_loss, number))
    return {"size": shard_size, "ideal": ideal, "hours": end, "losses": num_losses, "lost": lost}


def page(rates: dict[str, float], simulated: list[dict[str, float]], arguments: argparse.Namespace) -> str:
    cells, machines, cores = arguments.cells, arguments.machines, arguments.cores
    terabytes = cells * arguments.kilobytes / 1e9
    fastest = max(rates.values()) / NUM_CORES * cores
    lines = [
        f"# An archive of {cells / 1e6:,.0f} million cells",
        "",
        f"Made by `benchmarks/archive.py` from the rates of `benchmarks/predict.md`, measured on {NUM_CORES} cores "
        "with `recommended`: nine members, eight views, from files to predictions. More cores are assumed "
        f"to be as much faster, and a core to cost {arguments.price} an hour.",
        "",
        f"| way | images/s a core | core-hours | on {machines} machines of {cores} cores, hours | cost |",
        "|---|---|---|---|---|",
    ]
    for name, rate in rates.items():
        core_hours = cells / (rate / NUM_CORES) / 3600
        cost = f"{core_hours * arguments.price:,.0f}"
        lines.append(
            f"| {name} | {rate / NUM_CORES:.1f} | {core_hours:,.0f} | {core_hours / machines / cores:,.1f} | {cost} |"
        )
    lines += [
        "",
        f"Files of {arguments.kilobytes:.0f} kB are {terabytes:,.1f} TB. At the fastest of these rates a machine reads "
        f"{fastest * arguments.kilobytes / 1e3:,.1f} MB/s and all machines together "
        f"{fastest * arguments.kilobytes * machines / 1e6:,.2f} GB/s, so the processors are the brake and not the "
        "storage.",
        "",
        "## Slow and lost machines, simulated",
        "",
        f"{machines} machines of {cores} cores; shards vary by 10 %, {arguments.slow:.0%} of them take three times as "
        f"long; each machine is lost every {arguments.hours_between_losses:.0f} hours on average, with the shard that "
        f"it is at, and is back after {arguments.minutes_away:.0f} minutes.",
        "",
        "| images a shard | shards | hours, nothing slow or lost | hours | more | machines lost | machine-hours lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in simulated:
        more = row["hours"] / row["ideal"] - 1
        lines.append(
            f"| {row['size']:,} | {-(-cells // int(row['size'])):,} | {row['ideal']:.1f} | {row['hours']:.1f} | "
            f"{more:.0%} | {row['losses']} | {row['lost']:.1f} |"
        )
    lines += [
        "",
        f"Slow shards alone cost {2 * arguments.slow:.0%}. The larger the shards, the longer all wait for the last "
        "one, and the more a lost machine takes with it.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
