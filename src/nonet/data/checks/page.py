"""checks.html: what the checks found, with pictures, in one file that needs no network."""

import base64
import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from nonet.artifacts.run import write_json, write_text
from nonet.data.checks.near_duplicates import MIN_SIMILARITY
from nonet.data.checks.run import PAIR_KINDS, Checks
from nonet.data.checks.shortcuts import ORDER
from nonet.data.folds import spread_over_patients
from nonet.data.images.decode import load_rgb
from nonet.data.manifest import Dataset
from nonet.data.preprocess.cache import Crop, prepare_crops
from nonet.errors import DataError
from nonet.page.figures import class_counts_figure, in_house_style, sample_figure, svg_text
from nonet.page.html import environment, inline
from nonet.recipe import list_recipes, load_recipe

_TEMPLATES = Path(__file__).parent / "templates"
_SHOWN = 12  # pairs with pictures
_LISTED = 200  # rows of a table; checks.json has them all
_PER_CLASS = 6
_SIDE_PX = 104
_OWN_SIZE_PX = 224  # of a recipe that leaves each network its own size, which is no smaller


def write_checks(dataset: Dataset, checks: Checks) -> Path:
    """Write checks.json and checks.html into the dataset's folder; return the page's path.

    Raises
    ------
    DataError where the folder cannot be written to.
    """
    path = dataset.folder / "checks.html"
    try:
        write_json(dataset.folder / "checks.json", checks.as_json())
        write_text(path, render_checks(dataset, checks))
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}.", hint="Allow writing there, or copy the dataset."
        ) from error
    return path


def render_checks(dataset: Dataset, checks: Checks) -> str:
    """Return the page as HTML text."""
    sources = sorted(dataset.manifest["source"].unique())
    drawings = {}
    if dataset.manifest["label"].notna().any():
        drawings["class_counts"] = in_house_style(class_counts_figure, dataset.manifest)
    images, labels = _samples(dataset)
    if labels:
        drawings["samples"] = in_house_style(sample_figure, images, labels, num_per_class=_PER_CLASS)
        drawings["seen"] = _seen(images, labels)
    words = {
        "samples": "Images of each class.",
        "seen": "One image of each class, whole and cut and resized as each recipe does.",
        "class_counts": "Number of images of each class and source, as dots on a logarithmic scale.",
    }
    figures = {name: inline(svg_text(figure, name), words[name]) for name, figure in drawings.items()}
    return (
        environment(_TEMPLATES)
        .get_template("checks.html.j2")
        .render(
            title=dataset.folder.resolve().name,
            checks=checks,
            sources=sources,
            num_classes=len(dataset.classes),
            num_patients=dataset.manifest["patient"].nunique(),
            counts=_count_rows(checks, sources),
            shown=[_with_pictures(dataset, pair) for pair in checks.pairs.head(_SHOWN).to_dict("records")],
            pairs=checks.pairs.head(_LISTED).to_dict("records"),
            num_pairs=len(checks.pairs),
            kinds=PAIR_KINDS,
            min_similarity=MIN_SIMILARITY,
            shortcuts=checks.shortcuts,
            file_order=ORDER,
            tables=_tables(checks),
            listed=_LISTED,
            num_folds=checks.num_folds,
            figures=figures,
            notes=dataset.notes,
            made_at=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        )
    )


def _tables(checks: Checks) -> list[tuple[str, list[dict], int]]:
    named = {
        "Missing, changed or unreadable": checks.unreadable,
        "Copies under different labels, none kept": checks.conflicts,
        "Exact copies, one kept": checks.copies,
    }
    return [(name, table.head(_LISTED).to_dict("records"), len(table)) for name, table in named.items() if len(table)]


def _count_rows(checks: Checks, sources: list[str]) -> list[dict]:
    rows = []
    for (code, name), part in checks.counts.groupby(["class", "name"], sort=False):
        by_source = {row["source"]: row for row in part.to_dict("records")}
        few = part["unknown"].sum() == 0 and part["patients"].sum() < checks.num_folds
        cells = [by_source.get(source) for source in sources]
        rows.append({"code": code, "name": name if name != code else "", "cells": cells, "few": few})
    return rows


def _seen(images: list[np.ndarray], labels: list[str]) -> Figure:
    """Draw an image of each class as the networks of every recipe get it: denoised, cut and resized."""
    ways: dict[tuple, list[str]] = {}
    for name in list_recipes():
        recipe = load_recipe(name)
        models = recipe.models
        centres = models.centre.values() if isinstance(models.centre, dict) else [models.centre]
        for centre in centres:
            crop = Crop(models.image_size_px or _OWN_SIZE_PX, centre)
            ways.setdefault((crop, models.image_size_px is None, recipe.denoise), []).append(name)
    order = sorted(ways, key=lambda way: (-way[0].centre, -way[0].size_px))
    crops = sorted({crop for crop, _, _ in order})
    of_class, shown = list(dict.fromkeys(labels)), []
    for code in of_class:
        image = images[labels.index(code)]
        seen = {denoise: prepare_crops(image, crops, denoise) for _, _, denoise in order}
        shown += [seen[denoise][crop] for crop, _, denoise in order]
    heads = [f"{', '.join(dict.fromkeys(ways[way]))}\n{_in_words(*way[:2])}" for way in order]
    each = [code for code in of_class for _ in order]
    return in_house_style(sample_figure, shown, each, num_per_class=len(order), heads=heads)


def _in_words(crop: Crop, is_own_size: bool) -> str:
    part = "whole" if crop.centre == 1 else f"central {100 * crop.centre:g} %"
    return f"{part}\n{'≥ ' if is_own_size else ''}{crop.size_px} px"


def _samples(dataset: Dataset) -> tuple[list[np.ndarray], list[str]]:
    """Return some images of each class, of as many patients as there are, the same ones each time."""
    labelled = dataset.manifest[dataset.manifest["label"].notna()]
    images, labels = [], []
    for code, part in spread_over_patients(labelled, random_state=0).groupby("label"):
        for image_id in part["image_id"].head(_PER_CLASS):
            if (image := _loaded(dataset, image_id)) is not None:
                images.append(image)
                labels.append(code)
    return images, labels


def _with_pictures(dataset: Dataset, pair: dict) -> dict:
    return pair | {f"picture_{side}": _picture(dataset, pair[f"image_{side}"]) for side in ("a", "b")}


def _picture(dataset: Dataset, image_id: str) -> str:
    image = _loaded(dataset, image_id)
    if image is None:
        return ""
    picture, stream = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((2 * _SIDE_PX, 2 * _SIDE_PX), Image.Resampling.LANCZOS)
    picture.save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _loaded(dataset: Dataset, image_id: str) -> np.ndarray | None:
    try:
        return load_rgb(dataset.path_of(image_id))
    except DataError:  # the checks have named it
        return None
