"""Draw docs/images/phantom.png: cells of every class in order of maturation, and each degradation by severity.

Run it from the repository's root, with nonet installed: `python docs/make_contact_sheet.py`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from nonet.cells import CELLS, GRANULOCYTE_STAGES, in_order_of_maturation
from nonet.data.preprocess.corruptions import corrupt
from nonet.synthetic.appearance import patient_appearance
from nonet.synthetic.dataset import draw_cell
from nonet.synthetic.plan import DRAWN_CORRUPTIONS, SEVERITIES

OUT = Path(__file__).parent / "images" / "phantom.png"
CELL_PX = 132
GAP_PX = 4
GROUP_GAP_PX = 22
LABEL_PX = 44
MARGIN_PX = 16
SEED = 200
INK, FAINT, PAPER = "#1f2328", "#656d76", "#ffffff"

#: Rows of the sheet: a title, its classes in order of maturation, and what is shown beside them.
ROWS = (
    ("Granulopoiesis", GRANULOCYTE_STAGES, None),
    (
        "Blasts, granulocytes with coloured granules, monocytopoiesis",
        in_order_of_maturation(["BL", "EO", "BA", "MO"]),
        "patients",
    ),
    ("Lymphopoiesis", in_order_of_maturation(["PLY", "LY", "VLY", "PC"]), "maturity"),
)


def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font: the sheet looks the same on every machine."""
    return ImageFont.load_default(size_px)


def grid(cells: list[np.ndarray]) -> Image.Image:
    """Lay four cells out two by two."""
    block = Image.new("RGB", (2 * CELL_PX + GAP_PX, 2 * CELL_PX + GAP_PX), PAPER)
    for i, cell in enumerate(cells):
        row, column = divmod(i, 2)
        block.paste(Image.fromarray(cell), (column * (CELL_PX + GAP_PX), row * (CELL_PX + GAP_PX)))
    return block


def class_block(code: str) -> Image.Image:
    """Draw four cells of a class, each of another patient; a stage is shown from its youngest to its ripest."""
    cells = []
    for i, within_stage in enumerate((0.04, 0.08, 0.12, 0.17)):
        stage = GRANULOCYTE_STAGES.index(code) if code in GRANULOCYTE_STAGES else None
        maturity = None if stage is None else 0.2 * stage + within_stage
        look = patient_appearance(seed=i + 1)
        cells.append(draw_cell(code, seed=SEED + i, size_px=CELL_PX, patient=look, maturity=maturity))
    return grid(cells)


def patients_block() -> Image.Image:
    """Draw one monocyte as four patients' stain, light and focus show it."""
    looks = [replace(patient_appearance(seed), magnification=1.0) for seed in (11, 21, 31, 15)]
    return grid([draw_cell("MO", seed=SEED + 3, size_px=CELL_PX, patient=look) for look in looks])


def maturity_block() -> Image.Image:
    """Draw one granulocyte four times as it ripens."""
    look = replace(patient_appearance(seed=1), focus_um=0.05)
    ages = (0.12, 0.42, 0.62, 0.95)
    return grid([draw_cell("PMY", seed=SEED + 8, size_px=CELL_PX, patient=look, maturity=age) for age in ages])


def draw_blocks(sheet: Image.Image, top: int) -> int:
    """Draw all classes from `top` on, and what varies within them beside; return where they end."""
    draw = ImageDraw.Draw(sheet)
    for title, codes, beside in ROWS:
        draw.text((MARGIN_PX, top), title, fill=FAINT, font=font(17))
        top += 26
        blocks = [(class_block(code), CELLS[code].colour, code, CELLS[code].name) for code in codes]
        if beside == "patients":
            blocks.append((patients_block(), PAPER, "one cell, four patients", "stain, light, focus, red cells"))
        if beside == "maturity":
            blocks.append((maturity_block(), PAPER, "one cell ripens", "maturity 0.12, 0.42, 0.62, 0.95"))
        left = MARGIN_PX
        for block, colour, name, explanation in blocks:
            indent = 0 if colour == PAPER else 16
            draw.rectangle((left, top + 5, left + 7, top + 38), fill=colour)
            draw.text((left + indent, top), name, fill=INK, font=font(20))
            draw.text((left + indent, top + 23), explanation, fill=FAINT, font=font(15))
            sheet.paste(block, (left, top + LABEL_PX))
            left += block.width + GROUP_GAP_PX
        top += LABEL_PX + block.height + 20
    return top


def draw_degradations(sheet: Image.Image, top: int) -> int:
    """Draw each degradation at severities 1-3 beside the pristine cell; return where the strip ends."""
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, top), "Degradations by severity", fill=FAINT, font=font(17))
    top += 26
    cell = draw_cell("SNE", seed=203, size_px=CELL_PX, patient=patient_appearance(seed=1))
    left = MARGIN_PX
    shown = [("pristine", "noise", 0)]
    shown += [(f"{kind} {severity}", kind, severity) for kind in DRAWN_CORRUPTIONS for severity in SEVERITIES[1:]]
    for name, kind, severity in shown:
        draw.text((left, top), name, fill=INK, font=font(16))
        sheet.paste(Image.fromarray(corrupt(cell, kind, severity, seed=4)), (left, top + 24))
        left += CELL_PX + (GROUP_GAP_PX if severity in (0, 3) else GAP_PX)
    return top + 24 + CELL_PX


def few_colours(sheet: Image.Image) -> Image.Image:
    """Reduce to a palette that keeps the colours of the captions as they are."""
    fixed = [ImageColor.getrgb(colour) for colour in (INK, FAINT, PAPER, *(cell.colour for cell in CELLS.values()))]
    learned = sheet.quantize(256 - len(fixed), kmeans=2).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(value for colour in fixed for value in colour), *learned[: 3 * (256 - len(fixed))]])
    return sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def main() -> None:
    """Write the sheet, with few colours: it is shown on the first screen of the README."""
    width = 2 * MARGIN_PX + 5 * (2 * CELL_PX + GAP_PX) + 4 * GROUP_GAP_PX
    sheet = Image.new("RGB", (width, 3000), PAPER)
    bottom = draw_degradations(sheet, draw_blocks(sheet, MARGIN_PX))
    sheet = few_colours(sheet.crop((0, 0, width, bottom + MARGIN_PX)))
    OUT.parent.mkdir(exist_ok=True)
    sheet.save(OUT, optimize=True)
    print(f"{OUT}: {sheet.width} x {sheet.height} px, {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
