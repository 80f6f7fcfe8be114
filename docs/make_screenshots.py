"""Take the pictures of the review page: `make screenshots`. Needs Chromium and the package playwright.

python docs/make_screenshots.py           # docs/images/review.webp, review_differential.webp and label_issues.webp
python docs/make_screenshots.py FOLDER    # each page, light and dark, at the width of a desk and of a phone

The cells are drawn, as in benchmarks/review.py; some of those of the queue have a wrong label, planted on purpose.
"""

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from nonet.cells import CLASSES

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "benchmarks"), str(HERE.parent / "tests")]

from review import make_case, opened_browser, served  # noqa: E402

from helpers.issue_runs import make_doubted_run  # noqa: E402

SIZE_PX = 128
SIZES = {"desk": (1280, 800), "phone": (390, 780)}


def open_page(browser, scheme: str, size: str):
    """Return an empty page of a size, light or dark."""
    width, height = SIZES[size]
    phone = {"is_mobile": True, "has_touch": True} if size == "phone" else {}
    return browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, **phone)


def shoot_issues(browser, address: str, scheme: str, size: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG of the queue of doubtful labels."""
    page = open_page(browser, scheme, size)
    page.goto(f"{address}/issues")
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(800)
    yield "issues", page.screenshot()
    page.close()


def shoot(browser, address: str, scheme: str, size: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG of each page of a case."""
    page = open_page(browser, scheme, size)
    page.goto(address)
    yield "cases", page.screenshot()
    page.goto(f"{address}/cases/1")
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(1500)
    yield "gallery", page.screenshot()
    page.click("#help")
    yield "keys", page.screenshot()
    page.click("#help")
    page.click("#show-panel")
    page.focus(".tile.current")
    for key in ("ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_timeout(800)
    yield "cell", page.screenshot()
    page.goto(f"{address}/cases/1/differential")
    yield "differential", page.screenshot(full_page=True)
    page.close()


def save(png: bytes, path: Path, height: int | None = None) -> None:
    """Save a picture, or so much of its top, as WebP, a fifth of the size."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.crop((0, 0, picture.width, height or picture.height)).save(path, quality=90)


def main() -> None:
    """Draw a case, serve it, and take the pictures."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_case(folder)
        make_doubted_run(folder / "doubted", counts=dict.fromkeys(CLASSES, 14), rate=0.15, size_px=SIZE_PX)
        with (
            opened_browser() as browser,
            served(folder, "--cases", str(folder / "predictions")) as address,
            served(folder / "doubted") as issues_address,
        ):
            if out is None:
                pictures = dict(shoot(browser, address, "light", "desk"))
                pictures |= shoot_issues(browser, issues_address, "light", "desk")
                save(pictures["issues"], HERE / "images" / "label_issues.webp", height=665)  # a folder is named below
                save(pictures["cell"], HERE / "images" / "review.webp")
                save(pictures["differential"], HERE / "images" / "review_differential.webp")
                return
            out.mkdir(parents=True, exist_ok=True)
            for scheme in ("light", "dark"):
                for size in SIZES:
                    pages = [
                        *shoot(browser, address, scheme, size),
                        *shoot_issues(browser, issues_address, scheme, size),
                    ]
                    for page, png in pages:
                        save(png, out / f"{page}-{size}-{scheme}.webp")


if __name__ == "__main__":
    main()
