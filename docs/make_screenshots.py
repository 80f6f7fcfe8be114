"""Take the pictures of the review page: `make screenshots`. Needs Chromium and the package playwright.

python docs/make_screenshots.py         # docs/images/pages/ and docs/reference/pages.md, after `make demo`
python docs/make_screenshots.py DEMO    # with the demo in another folder

Every page, light and dark, at the width of a desk and of a phone. All cells are drawn: those of the demo, whose
networks answer in the panel, and a case of 400 cells as in benchmarks/review.py.
"""

import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "benchmarks"), str(HERE.parent / "tests")]

from review import make_case, opened_browser  # noqa: E402

import nonet  # noqa: E402
from helpers.browsing import served  # noqa: E402

OUT = HERE / "images" / "pages"
SIZES = {"desk": (1280, 800), "phone": (390, 780)}
SCHEMES = ("light", "dark")
QUALITY = 80
TITLES = {
    "cases": "Cases",
    "gallery": "The cells of a case",
    "keys": "The keys",
    "cell": "The panel of a cell",
    "differential": "The differential",
    "issues": "Label issues",
    "run": "The run",
    "login": "Logging in",
}


def shoot_case(page, address: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG of the pages that are shown with a case of 400 cells."""
    page.goto(f"{address}/cases/1")
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(1500)
    yield "gallery", page.screenshot()
    page.click("#help")
    yield "keys", page.screenshot()
    page.goto(f"{address}/cases/1/differential")
    yield "differential", page.screenshot()


def shoot_demo(page, address: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the PNG of the pages that are shown with the demo's run."""
    page.goto(address)
    yield "cases", page.screenshot()
    page.click("tbody a >> nth=1")
    page.wait_for_selector("body[data-ready]")
    page.click("#show-panel")
    page.check("#show-heat")
    page.focus(".tile.current")
    for key in ("ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_selector(".votes")
    page.wait_for_timeout(1000)
    page.evaluate("scrollTo(0, 0)")
    yield "cell", page.screenshot()
    page.goto(f"{address}/issues")
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(800)
    yield "issues", page.screenshot()
    page.goto(f"{address}/run")
    yield "run", page.screenshot()


def wait_until_ready(page, address: str) -> None:
    """Wait until the networks are loaded."""
    while page.request.get(f"{address}/readyz").status != 200:
        time.sleep(0.5)


def save(png: bytes, path: Path) -> None:
    """Save a picture as WebP, a fifth of the size."""
    Image.open(io.BytesIO(png)).convert("RGB").save(path, quality=QUALITY, method=6)


def write_page() -> None:
    """Write docs/reference/pages.md, which shows them all."""
    lines = ["# The pages", "", "Every page of `nonet serve`, made by `make screenshots` from drawn cells."]
    for name, title in TITLES.items():
        lines += ["", f"## {title}", ""]
        for size in SIZES:
            cells = [f"![{title}, {size}, {scheme}](../images/pages/{name}-{size}-{scheme}.webp)" for scheme in SCHEMES]
            lines += ["| light | dark |", "|---|---|", f"| {' | '.join(cells)} |", ""]
        lines.pop()
    (HERE / "reference" / "pages.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Serve drawn cells and the demo, and take the pictures."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "demo")
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder, runs = Path(name), [Path(name) / "demo", Path(name) / "users"]
        make_case(folder)
        for run in runs:
            shutil.copytree(demo / "run", run, ignore=shutil.ignore_patterns("review"))
        nonet.add_user(runs[1], "A. Lee", password="a password for pictures")
        with (
            opened_browser() as browser,
            served(folder / "run", "--cases", folder / "predictions", reviewer="A. Lee") as (case_address, _),
            served(runs[0], "--cases", demo / "predictions", reviewer="A. Lee") as (demo_address, _),
            served(runs[1], reviewer=None) as (login_address, _),
        ):
            for scheme in SCHEMES:
                for size, (width, height) in SIZES.items():
                    phone = {"is_mobile": True, "has_touch": True} if size == "phone" else {}
                    viewport = {"width": width, "height": height}
                    page = browser.new_page(viewport=viewport, color_scheme=scheme, locale="en-US", **phone)
                    wait_until_ready(page, demo_address)
                    pictures = [*shoot_case(page, case_address), *shoot_demo(page, demo_address)]
                    page.goto(login_address)
                    for name, png in [*pictures, ("login", page.screenshot())]:
                        save(png, OUT / f"{name}-{size}-{scheme}.webp")
                    page.close()
    write_page()


if __name__ == "__main__":
    main()
