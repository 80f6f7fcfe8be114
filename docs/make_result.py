"""Draw docs/images/result.png, the README's picture: the confusion of the demo's ensemble, counted and by row.

Run it from the repository's root, after `make demo`: `python docs/make_result.py`.
"""

import io
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from nonet.artifacts.run import Run
from nonet.page.figures import with_page_style
from nonet.report.figures import confusion_figure

OUT = Path(__file__).parent / "images" / "result.png"
DPI = 150


def picture(run: Run) -> Image.Image:
    """Return both confusion matrices of an evaluated run, side by side."""
    confusion = pd.read_csv(run.evaluation / "confusion.csv", index_col=0)
    halves = [with_page_style(_drawn, confusion, by_row=by_row) for by_row in (False, True)]
    sheet = Image.new("RGB", (sum(half.width for half in halves), max(half.height for half in halves)), "white")
    left = 0
    for half in halves:
        sheet.paste(half, (left, 0))
        left += half.width
    return sheet


def _drawn(confusion: pd.DataFrame, *, by_row: bool) -> Image.Image:
    file = io.BytesIO()
    confusion_figure(confusion, by_row=by_row).savefig(file, format="png", dpi=DPI, facecolor="white")
    return Image.open(file).convert("RGB")


if __name__ == "__main__":
    run = Run(sys.argv[1] if len(sys.argv) > 1 else "demo/run")
    OUT.parent.mkdir(exist_ok=True)
    picture(run).save(OUT, optimize=True)
    print(OUT)
