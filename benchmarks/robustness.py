"""Does the paper's denoising help on images worse than those of training, and where does it hurt?

    python benchmarks/robustness.py RUN --dataset DATASET --limit 600

RUN is trained by patient. Corrupts held-out images (see `nonet.data.preprocess.corruptions`), scores each by the
members that never saw its patient, denoised and not, and writes benchmarks/robustness.md. All corruptions and
severities are scored without views, those of --view-corruptions and --view-severities with the recipe's views as well.
Run it again to resume. 600 images take about a quarter of an hour on two cores.
"""

import argparse
import logging
import time
from pathlib import Path

import pandas as pd

import nonet
from nonet.data.preprocess.corruptions import CORRUPTIONS
from nonet.evaluation.robustness import CORRUPTION, DENOISING, VIEWS, Robustness
from nonet.evaluation.tables import format_interval

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dataset", type=Path, help="the run's dataset, if it was moved")
    parser.add_argument("--limit", type=int, default=600, help="number of images, evenly by class; 0 uses all")
    parser.add_argument("--view-corruptions", nargs="*", default=["noise", "blur"])
    parser.add_argument("--view-severities", nargs="*", type=int, default=[2])
    parser.add_argument("--out", type=Path, default=HERE / "robustness.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = {"dataset": arguments.dataset, "limit": arguments.limit}
    start = time.monotonic()
    nonet.evaluate_robustness(arguments.run, views=False, **options)
    found = nonet.evaluate_robustness(
        arguments.run, corruptions=arguments.view_corruptions, severities=arguments.view_severities, **options
    )
    logging.info("%.0f seconds", time.monotonic() - start)
    arguments.out.write_text(report(found), encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def report(found: Robustness) -> str:
    """Return the page: what was done, macro-F1 of each variant, and paired differences."""
    first = found.scores.iloc[0]
    lines = [
        "# Corrupted images, with and without denoising",
        "",
        f"Made by `benchmarks/robustness.py` from {first['images']:,} held-out images of {first['patients']} patients, "
        "each scored by the members that never saw its patient. The images are drawn as evenly over classes as "
        "possible and are the same in every variant, so the scores are not those of all images. In brackets, "
        f"{100 * first['confidence']:g} % intervals by bootstrap over patients; differences are paired on the same "
        "resampled patients. *Changed* is the share of images whose estimated sigma reaches the recipe's "
        "threshold, so that denoising changes them.",
        "",
        "## Macro-F1 without views",
        "",
        _table(
            ["corruption", "severity", "strength", "as is", "denoised", "denoised − as is", "changed"],
            _denoising_rows(found),
        ),
        "",
        "Strengths: " + "; ".join(f"{_words(kind)}: {about.unit}" for kind, about in CORRUPTIONS.items()) + ".",
        "",
        "## What corruptions cost: corrupted − clean, without views",
        "",
        _table(["corruption", "severity 1", "2", "3", "4"], _corruption_rows(found)),
        "",
        "## With and without views, denoised",
        "",
        _table(["corruption", "severity", "without", "with", "with − without"], _view_rows(found)),
        "",
    ]
    return "\n".join(lines)


def _denoising_rows(found: Robustness) -> list[list[str]]:
    rows = []
    for gap in _gaps(found, DENOISING, views="none"):
        as_is, denoised = (_score(found, gap, denoised=value) for value in (False, True))
        strength = f"{CORRUPTIONS[gap['corruption']].strengths[gap['severity'] - 1]:g}" if gap["severity"] else ""
        changed = f"{100 * denoised['share_changed']:.0f} %"
        cells = [_interval(as_is), _interval(denoised), _difference(gap), changed]
        rows.append([_words(gap["corruption"]), str(gap["severity"]), strength, *cells])
    return rows


def _corruption_rows(found: Robustness) -> list[list[str]]:
    gaps = _gaps(found, CORRUPTION, views="none")
    rows = []
    for kind in CORRUPTIONS:
        as_is, denoised = (
            [_difference(gap) for gap in gaps if gap["corruption"] == kind and gap["denoised"] == value]
            for value in (False, True)
        )
        rows.append([_words(kind) + (", as is" if as_is != denoised else ""), *as_is])
        if as_is != denoised:
            rows.append([f"{_words(kind)}, denoised", *denoised])
    return rows


def _view_rows(found: Robustness) -> list[list[str]]:
    rows = []
    for gap in _gaps(found, VIEWS):
        if gap["denoised"]:
            both = _score(found, gap, views="none"), _score(found, gap)
            rows.append([_words(gap["corruption"]), str(gap["severity"]), *map(_interval, both), _difference(gap)])
    return rows


def _gaps(found: Robustness, comparison: str, **where) -> list[dict]:
    table = found.differences[found.differences["comparison"] == comparison]
    for name, value in where.items():
        table = table[table[name] == value]
    return table.to_dict("records")


def _score(found: Robustness, gap: dict, **changes) -> pd.Series:
    """Return the first variant of a difference, or the one that differs from it by `changes`."""
    table = found.scores
    for name in ("corruption", "severity", "denoised", "views"):
        table = table[table[name] == (gap | changes)[name]]
    return table.iloc[0]


def _interval(row) -> str:
    return format_interval(row["macro_f1"], row["macro_f1_low"], row["macro_f1_high"])


def _difference(gap: dict) -> str:
    words = f"{gap['difference']:+.3f} [{gap['difference_low']:+.3f}, {gap['difference_high']:+.3f}]"
    settled = gap["difference_low"] > 0 or gap["difference_high"] < 0
    return (f"**{words}**" if settled else words).replace("-", "−")


def _words(kind: str) -> str:
    return "clean" if kind == "none" else kind.replace("_", " ")


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    main()
