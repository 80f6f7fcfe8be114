"""Take the pictures of the review page: `make screenshots`. Needs Chromium and the package playwright.

python docs/make_screenshots.py           # docs/images/review.webp and review_differential.webp
python docs/make_screenshots.py FOLDER    # each page, light and dark, at the width of a desk and of a phone

The cells are drawn, as in benchmarks/review.py.
"""

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from review import make_case, opened_browser, served  # noqa: E402

SIZES = {"desk": (1280, 800), "phone": (390, 780)}


def shoot(browser, address: str, scheme: str, size: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG of each page."""
    width, height = SIZES[size]
    phone = {"is_mobile": True, "has_touch": True} if size == "phone" else {}
    viewport = {"width": width, "height": height}
    page = browser.new_page(viewport=viewport, color_scheme=scheme, **phone)
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


def save(png: bytes, path: Path) -> None:
    """Save a picture as WebP, a fifth of the size."""
    Image.open(io.BytesIO(png)).convert("RGB").save(path, quality=90)


def main() -> None:
    """Draw a case, serve it, and take the pictures."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_case(folder)
        with opened_browser() as browser, served(folder, "--cases", str(folder / "predictions")) as address:
            if out is None:
                pictures = dict(shoot(browser, address, "light", "desk"))
                save(pictures["cell"], HERE / "images" / "review.webp")
                save(pictures["differential"], HERE / "images" / "review_differential.webp")
                return
            out.mkdir(parents=True, exist_ok=True)
            for scheme in ("light", "dark"):
                for size in SIZES:
                    for page, png in shoot(browser, address, scheme, size):
                        save(png, out / f"{page}-{size}-{scheme}.webp")


if __name__ == "__main__":
    main()
