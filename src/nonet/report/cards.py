"""model_card.md and datasheet.md: what a run is, its data, its scores, and what was not measured.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019, and Gebru et al., Datasheets for Datasets,
Communications of the ACM 64(12), 2021. Everything is read from the run folder; what only its owner knows is marked
"To be filled in".
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nonet.cells import class_name, in_order_of_maturation
from nonet.data.sources import SOURCES
from nonet.data.unknown_types import count_types, has_unknown_type
from nonet.evaluation.calibration import MeasuredCalibration
from nonet.evaluation.results import Results
from nonet.evaluation.robustness import corruption_rows
from nonet.evaluation.tables import HEADINGS, format_interval
from nonet.page.markdown import Markdown, escape, markdown_environment, table
from nonet.page.numbers import percent, percent_range, score
from nonet.recipe import Recipe, differing_settings, list_recipes, load_recipe
from nonet.report import report_text
from nonet.report.caveats import limits, reasons_for_optimism
from nonet.settings import NO_VIEWS

_USES = ("images", "scored", "external", "test")
_TEMPLATES = Path(__file__).parent / "templates"
#: Marks what the owner of the run has to add.
TO_FILL_IN = "To be filled in"


def render_cards(results: Results) -> dict[str, str]:
    """Render the model card and the datasheet.

    Parameters
    ----------
    results : Results
        As `nonet.evaluation.results.measure` returns them.

    Returns
    -------
    dict of str to str
        File name → Markdown text.
    """
    pages = markdown_environment(_TEMPLATES)
    pages.filters["fill_in"] = lambda what: Markdown(f"**{TO_FILL_IN}:** {escape(what)}")
    shown = _shared(results)
    return {
        "model_card.md": pages.get_template("model_card.md.j2").render(shown | _model(results)),
        "datasheet.md": pages.get_template("datasheet.md.j2").render(shown | _dataset(results, shown["sources"])),
    }


def _shared(results: Results) -> dict:
    data, manifest = results.data, results.data.manifest
    return {
        "name": data.name,
        "results": results,
        "oof": data.oof,
        "head": results.headline,
        "report_text": report_text,
        "created": data.provenance.get("created"),
        "version": data.provenance.get("environment", {}).get("versions", {}).get("nonet"),
        "record": data.record,
        "optimism": reasons_for_optimism(results),
        "num_classes": len(data.oof.classes),
        "evaluated_sources": _sources_text(data.evaluated),
        "external": data.external,
        "sources": [_source(name, results) for name in sorted(manifest["source"].astype(str).unique())],
        "classes": table(
            ["class", "name", "images scored", "their patients", "images for training only", "their patients"],
            _class_rows(results),
            align="llrrrr",
        ),
    }


def _sources_text(images: pd.DataFrame) -> str:
    return ", ".join(f"{source} ({count:,})" for source, count in images["source"].value_counts().items())


def _source(name: str, results: Results) -> dict:
    """Return what is known of a source; `about` is None unless it is a published set that nonet knows."""
    manifest = results.data.manifest
    images = manifest[manifest["source"].astype(str) == name]
    kind = results.data.record["kinds"].get(name, "") if results.data.record else ""
    about = SOURCES.get(kind)
    return {
        "name": name,
        "kind": kind,
        "about": about if about is not None and about.published else None,
        "images": len(images),
        "scored": int(images["image_id"].isin(results.data.oof.image_id).sum()),
        "external": int((results.data.external["source"].astype(str) == name).sum()),
        "test": int(images["split"].eq("test").sum()),
        "patients": _patients_text(images),
        "sizes": _sizes_text(images),
    }


def _patients_text(images: pd.DataFrame) -> str:
    known = images[images["patient"].notna()]
    if known.empty:
        return "unknown"
    text = f"{known['patient'].nunique():,}"
    stand_in = known["patient_is_standin"].fillna(False).astype(bool)
    if stand_in.any():
        text += ", stand-ins" if stand_in.all() else f", {known.loc[stand_in, 'patient'].nunique():,} of them stand-ins"
    unknown = len(images) - len(known)
    return text + (f"; unknown of {unknown:,} images" if unknown else "")


def _sizes_text(images: pd.DataFrame) -> str:
    sizes = images.groupby(["width", "height"]).size().sort_values(ascending=False, kind="stable")
    (width, height), count = sizes.index[0], sizes.iloc[0]
    text = f"{width} × {height} px"
    if len(sizes) == 1:
        return text
    return (
        f"{text} ({100 * count / len(images):.0f} %), others from {images['width'].min()} × {images['height'].min()} "
        f"to {images['width'].max()} × {images['height'].max()}"
    )


def _class_rows(results: Results) -> list[list]:
    """Return code, name, scored images and patients, external images and patients of each class of the run."""
    external, rows = results.data.external, []
    scored = {row["code"]: row for row in results.per_class.to_dict("records")}
    for code in in_order_of_maturation(scored):
        others = external[external["label"] == code]
        row = scored[code]
        # If only some patients are known, their number would be misleading.
        patients = "unknown" if pd.isna(row["patients"]) else f"{row['patients']:,}"
        known = "unknown" if others["patient"].isna().any() else f"{others['patient'].nunique():,}"
        rows.append([code, class_name(code), f"{row['images']:,}", patients, f"{len(others):,}", known])
    return rows


def _model(results: Results) -> dict:
    """Return the values that only the model card uses."""
    data = results.data
    calibration = results.calibration if isinstance(results.calibration, MeasuredCalibration) else None
    return {
        "recipe_name": data.recipe.name,
        "num_networks": data.num_networks,
        "has_views": data.oof.final_view_set != NO_VIEWS,
        "weights": table(
            ["architecture", "networks", "pretrained weights and their licence"], _weights(results), align="lrl"
        ),
        "non_commercial": [name for name, origin in data.origins.items() if "-NC-" in (origin or "")],
        "overall": _overall(results),
        "by_class": _by_class(results),
        "calibration": _calibration_table(calibration) if calibration else None,
        "doubt": calibration.doubt if calibration else None,
        "sets": calibration.coverage.iloc[0] if calibration else None,
        "coverage": calibration.settings.coverage if calibration else None,
        "robustness": _robustness(results),
        "settings": _settings(data.recipe),
        "provenance": data.provenance,
        "limits": limits(results),
        "share": lambda row, name: Markdown(
            f"{percent(row[name])} [{percent_range(row[f'{name}_low'], row[f'{name}_high'])}]"
        ),
        "between": lambda row, score, decimals=3: Markdown(
            format_interval(row[score], row[f"{score}_low"], row[f"{score}_high"], decimals=decimals)
        ),
    }


def _weights(results: Results) -> list[list]:
    data, rows = results.data, []
    for name, num in data.oof.num_folds.items():
        origin = data.origins.get(name, "not recorded in this run folder")
        rows.append([data.titles.get(name, name), num, origin or "none: random initialisation"])
    return rows


def _overall(results: Results) -> Markdown:
    rows = [
        [_row_name(row, results), row["views"], *(_cell(row, name) for name in HEADINGS)]
        for row in results.table.to_dict("records")
    ]
    return table(["", "views", *HEADINGS.values()], rows, align="ll" + "r" * len(HEADINGS))


def _row_name(row: Mapping, results: Results) -> str:
    """Return a row's name, with its number of images if a dead member leaves it fewer than others."""
    return row["name"] if row["images"] == results.headline["images"] else f"{row['name']}, {row['images']:,} images"


def _by_class(results: Results) -> Markdown:
    rows = [
        [
            row["code"],
            row["name"],
            f"{row['images']:,}",
            "unknown" if pd.isna(row["patients"]) else f"{row['patients']:,}",
            *(score(row[name]) for name in ("precision", "recall")),
            _cell(row, "f1"),
            row["note"],
        ]
        for row in results.per_class.to_dict("records")
    ]
    return table(["class", "name", "images", "patients", "precision", "recall", "F1", "note"], rows, align="llrrrrrl")


def _calibration_table(calibration: MeasuredCalibration) -> Markdown:
    row = calibration.measures.iloc[0].to_dict()
    titles = {"ece": "expected calibration error", "brier": "Brier score", "nll": "log loss"}
    rows = [[title, _cell(row, f"{name}_before"), _cell(row, f"{name}_after")] for name, title in titles.items()]
    return table(["lower is better", "before", "after"], rows, align="lrr")


def _robustness(results: Results) -> Markdown | None:
    if results.robustness is None:
        return None
    _, rows = corruption_rows(results.robustness, denoised=results.data.recipe.denoise.enabled)
    severities = sorted({row["severity"] for row in rows})
    scores = {(row["corruption"], row["severity"]): score(row["macro_f1"]) for row in rows}
    body = [
        [corruption.replace("_", " "), *(scores.get((corruption, level), "–") for level in severities)]
        for corruption in dict.fromkeys(row["corruption"] for row in rows)
    ]
    header = ["corruption", *(f"severity {level}" for level in severities)]
    return table(header, body, align="l" + "r" * len(severities))


def _cell(row: Mapping, name: str) -> Markdown:
    return Markdown(format_interval(row[name], row[f"{name}_low"], row[f"{name}_high"]))


def _settings(recipe: Recipe) -> dict:
    """Return which recipe a run's settings are compared with, and those that differ."""
    if recipe.name in list_recipes():
        base, words = load_recipe(recipe.name), f'nonet\'s recipe "{recipe.name}"'
    else:
        base = Recipe(name=recipe.name, description=recipe.description, models=recipe.models)
        words = "nonet's defaults, which are the paper's values"
    rows = [[key, was, now] for key, (was, now) in differing_settings(base, recipe).items()]
    return {"base": words, "table": table(["setting", "default", "this run"], rows, align="lll") if rows else None}


def _dataset(results: Results, sources: list[dict]) -> dict:
    """Return the values that only the datasheet uses."""
    data, oof = results.data, results.data.oof
    manifest, record = data.manifest, data.record
    excluded = record["excluded"] if record else []
    patients = pd.Series(oof.patient, dtype=object)
    folds = [
        [fold, f"{(oof.fold == fold).sum():,}", f"{patients[oof.fold == fold].nunique():,}"]
        for fold in sorted(set(oof.fold.tolist()))
    ]
    return {
        "manifest": manifest,
        "num_patients": _patients_text(manifest),
        "unlabelled": int((manifest["label"].isna() & ~has_unknown_type(manifest)).sum()),
        "unknown_types": count_types(manifest),
        "test": int(manifest["split"].eq("test").sum()),
        "folds": table(["held out in fold", "images", "known patients"], folds, align="lrr"),
        "by": data.recipe.folds.by,
        "source_table": table(
            ["source", "images", "scored", "training only", "test", "patients", "size"],
            [[s["name"], *(f"{s[use]:,}" for use in _USES), s["patients"], s["sizes"]] for s in sources],
            align="lrrrrll",
        ),
        "excluded": table(["source", "reason", "images"], [list(row.values()) for row in excluded], align="llr")
        if excluded
        else None,
        "num_excluded": sum(row["images"] for row in excluded),
        "denoise": data.recipe.denoise,
        "centre": _centre_text(data.recipe.models.centre),
        "size_px": data.recipe.models.image_size_px,
    }


def _centre_text(centre: float | Mapping[str, float]) -> str:
    if isinstance(centre, Mapping):
        parts = ", ".join(f"{100 * part:g} % for {name}" for name, part in centre.items())
        return f"Cropped to the central square. Its side, as a share of the frame's shorter side: {parts}; else 100 %."
    if centre == 1:
        return "The whole frame is used."
    return f"Cropped to the central square, whose side is {100 * centre:g} % of the frame's shorter side."
