"""checks.html: the results of the dataset checks with pictures, in one file that needs no network."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nonet.artifacts.run import write_json, write_text
from nonet.data.checks.background import Background
from nonet.data.checks.near_duplicates import MIN_SIMILARITY
from nonet.data.checks.run import PAIR_KINDS, Checks
from nonet.data.checks.shortcuts import ORDER
from nonet.data.folds import spread_over_patients
from nonet.data.images.decode import load_rgb
from nonet.data.manifest import Dataset
from nonet.data.preprocess.crop import Crop
from nonet.data.preprocess.crops import prepare_crops
from nonet.errors import DataError
from nonet.page.figures import class_counts_figure, sample_figure, svg_text, with_page_style
from nonet.page.html import html_environment, inline
from nonet.page.pictures import embedded
from nonet.recipe import Denoise, list_recipes, load_recipe
from nonet.workers import map_in_threads, worker_count

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_PICTURES = 12  # pairs shown with pictures
_MAX_ROWS = 200  # rows of a table; checks.json has them all
_MAX_SWATCHES = 400  # groups whose colours are shown beside each other; more would be too narrow to see
_PER_CLASS = 6
_SIDE_PX = 104
_OWN_SIZE_PX = 224  # for recipes that leave each network its own size, which is at least this


def write_checks(dataset: Dataset, check: Callable[[], Checks]) -> Checks:
    """Run the checks, and write checks.json and checks.html into the dataset's folder.

    The figures do not depend on the results, so they are drawn meanwhile.

    Parameters
    ----------
    dataset : Dataset
    check : callable
        Runs the checks.

    Returns
    -------
    Checks

    Raises
    ------
    DataError
        When the folder cannot be written to.
    """
    with ThreadPoolExecutor(1) as pool:
        drawn = pool.submit(draw_figures, dataset)
        checks = check()
        figures = drawn.result()
    write_json(dataset.folder / "checks.json", checks.as_json())
    write_text(dataset.folder / "checks.html", render_checks(dataset, checks, figures))
    return checks


def draw_figures(dataset: Dataset) -> dict[str, str]:
    """Draw the figures of the page.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    dict of str to str
        Name → SVG to be put into HTML; empty where no image has a label.
    """
    drawings = {}
    if dataset.manifest["label"].notna().any():
        drawings["class_counts"] = with_page_style(class_counts_figure, dataset.manifest)
    images, labels = _samples(dataset)
    if labels:
        drawings["samples"] = with_page_style(sample_figure, images, labels, num_per_class=_PER_CLASS)
        drawings["crops"] = _crop_figure(images, labels)
    alternatives = {
        "samples": "Images of each class.",
        "crops": "One image of each class, cropped and resized as each recipe does.",
        "class_counts": "Number of images of each class and source, as dots on a logarithmic scale.",
    }
    return {name: inline(svg_text(figure, name), alternatives[name]) for name, figure in drawings.items()}


def render_checks(dataset: Dataset, checks: Checks, figures: dict[str, str]) -> str:
    """Render the page.

    Parameters
    ----------
    dataset : Dataset
    checks : Checks
    figures : dict of str to str
        As `draw_figures` returns them.

    Returns
    -------
    str
        HTML.
    """
    sources = sorted(dataset.manifest["source"].unique())
    shown = checks.pairs.head(_MAX_PICTURES).to_dict("records")
    return (
        html_environment(_TEMPLATES)
        .get_template("checks.html.j2")
        .render(
            title=dataset.folder.resolve().name,
            checks=checks,
            sources=sources,
            num_classes=len(dataset.classes),
            num_patients=dataset.manifest["patient"].nunique(),
            counts=_count_rows(checks, sources),
            shown=[
                pair | {f"picture_{side}": _picture(dataset, pair[f"image_{side}"]) for side in ("a", "b")}
                for pair in shown
            ],
            pairs=checks.pairs.head(_MAX_ROWS).to_dict("records"),
            num_pairs=len(checks.pairs),
            kinds=PAIR_KINDS,
            min_similarity=MIN_SIMILARITY,
            shortcuts=checks.shortcuts,
            file_order=ORDER,
            backgrounds=checks.backgrounds,
            swatches=[
                (each, _swatches(each)) for each in checks.backgrounds if 2 <= len(each.colours) <= _MAX_SWATCHES
            ],
            tables=_tables(checks),
            max_rows=_MAX_ROWS,
            num_folds=checks.num_folds,
            figures=figures,
            notes=dataset.notes,
            made_at=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        )
    )


def _swatches(background: Background) -> list[str]:
    """Return the mean background colours of the groups as CSS colours, the darkest first."""
    colours = sorted(background.colours.values(), key=sum)
    return [f"rgb({red:g}, {green:g}, {blue:g})" for red, green, blue in colours]


def _tables(checks: Checks) -> list[tuple[str, list[dict], int]]:
    tables = {
        "Missing, changed or unreadable": checks.unreadable,
        "Exact copies with different labels, all left out": checks.conflicts,
        "Exact copies, of which one is used": checks.copies,
    }
    return [
        (title, table.head(_MAX_ROWS).to_dict("records"), len(table)) for title, table in tables.items() if len(table)
    ]


def _count_rows(checks: Checks, sources: list[str]) -> list[dict]:
    rows = []
    for (code, name), part in checks.counts.groupby(["class", "name"], sort=False):
        by_source = {row["source"]: row for row in part.to_dict("records")}
        few = part["unknown"].sum() == 0 and part["patients"].sum() < checks.num_folds
        cells = [by_source.get(source) for source in sources]
        rows.append({"code": code, "name": name if name != code else "", "cells": cells, "few": few})
    return rows


def _crop_figure(images: list[np.ndarray], labels: list[str]) -> Figure:
    """Draw an image of each class cropped and resized as each recipe's networks see it.

    Not denoised: whether a crop cuts the cell does not depend on it, and numba would take half of the page's time.
    """
    recipes_by_input: dict[tuple[Crop, bool, Denoise], list[str]] = {}
    for name in list_recipes():
        recipe = load_recipe(name)
        models, settings = recipe.models, recipe.denoise.model_copy(update={"enabled": False})
        centres = models.centre.values() if isinstance(models.centre, dict) else [models.centre]
        for centre in centres:
            crop = Crop(models.image_size_px or _OWN_SIZE_PX, centre)
            recipes_by_input.setdefault((crop, models.image_size_px is None, settings), []).append(name)
    order = sorted(recipes_by_input, key=lambda each: (-each[0].centre, -each[0].size_px))
    codes, panels = list(dict.fromkeys(labels)), []
    for code in codes:
        image = images[labels.index(code)]
        panels += [prepare_crops(image, [crop], settings)[crop] for crop, _, settings in order]
    heads = [f"{', '.join(dict.fromkeys(recipes_by_input[each]))}\n{_crop_text(each[0], each[1])}" for each in order]
    each_code = [code for code in codes for _ in order]
    return with_page_style(sample_figure, panels, each_code, num_per_class=len(order), heads=heads)


def _crop_text(crop: Crop, is_own_size: bool) -> str:
    part = "whole" if crop.centre == 1 else f"central {100 * crop.centre:g} %"
    return f"{part}\n{'≥ ' if is_own_size else ''}{crop.size_px} px"


def _samples(dataset: Dataset) -> tuple[list[np.ndarray], list[str]]:
    """Return some images of each class, from as many patients as possible, the same ones each time."""
    labelled = dataset.manifest[dataset.manifest["label"].notna()]
    chosen = [
        (image_id, str(code))
        for code, part in spread_over_patients(labelled, random_state=0).groupby("label")
        for image_id in part["image_id"].head(_PER_CLASS)
    ]
    with closing(map_in_threads(partial(_load, dataset), [each for each, _ in chosen], worker_count(None))) as loaded:
        samples = [(image, code) for image, (_, code) in zip(loaded, chosen) if image is not None]
    return [image for image, _ in samples], [code for _, code in samples]


def _picture(dataset: Dataset, image_id: str) -> str:
    image = _load(dataset, image_id)
    return "" if image is None else embedded(image, 2 * _SIDE_PX)


def _load(dataset: Dataset, image_id: str) -> np.ndarray | None:
    try:
        return load_rgb(dataset.image_path(image_id))
    except DataError:  # listed by the checks
        return None
