"""The challenge's later release on the Hugging Face hub: Parquet, with patients and severity. Gated."""

from pathlib import Path

from nonet.cells import CLASSES
from nonet.data.sources.base import Download, Source
from nonet.data.sources.listing import LabelMap, Listing
from nonet.data.sources.packed import PackedImages, image_suffix, parquet_files, read_cells, read_parquet, safe_name
from nonet.errors import DataError

LABELS = LabelMap({code: code for code in CLASSES})

#: Start of a file's name → split in the manifest, as for wbcbench.
SPLITS = {"phase1_train": "phase1", "phase2_train": "phase2_train", "phase2_eval": "phase2_eval", "phase2_test": "test"}
COLUMNS = ["image_id", "label", "severity", "original_image_id", "patient_hash", "image.path"]


def _read(path: Path, source: str) -> Listing:
    """List the images of pristine/ and degraded/, or of one of them; those of the test part have the split "test"."""
    listing = Listing(path)
    places: dict[str, tuple[Path, str, int]] = {}
    for file in parquet_files(path):
        split = next((split for start, split in SPLITS.items() if file.name.startswith(start)), None)
        if split is None:
            listing.exclude(
                file.relative_to(path).as_posix(), source, None, f"not part of the release: named {file.name}"
            )
            continue
        _list_file(listing, file, source, split, places)
    listing.packed = PackedImages(places, read_cells)
    if any(row["patient_is_standin"] for row in listing.rows):
        listing.notes.append(
            f"{source}: images without patient_hash are grouped by their original image, so that an image and its "
            "degraded copies stay on one side of a split; other images of the same patient may not."
        )
    configs = {row["path"].split("/")[0] for row in listing.rows}
    if len(configs) > 1:
        listing.notes.append(
            f"{source}: {' and '.join(sorted(configs))} are both present: an image and its degraded copies count as "
            "separate images, and share a fold. Give the path of one of them to use it alone."
        )
    return listing


def _list_file(listing: Listing, file: Path, source: str, split: str, places: dict[str, tuple[Path, str, int]]) -> None:
    values, _ = read_parquet(file, COLUMNS)
    missing = [column for column in ("image_id", "label") if column not in values]
    if missing:
        raise DataError(f"{file} has no column {missing[0]}.", hint="Is it a file of Xin-Tian/wbcbench2026?")
    blank = [None] * len(values["image_id"])
    severities, patients, originals, names = (
        values.get(column) or blank for column in ("severity", "patient_hash", "original_image_id", "image.path")
    )
    folders = (listing.root.name, *file.relative_to(listing.root).parts)
    config = "degraded" if "degraded" in folders else "pristine"
    for row, (image_id, label) in enumerate(zip(values["image_id"], values["label"])):
        severity = f"/severity-{safe_name(str(severities[row]))}" if severities[row] not in (None, "") else ""
        suffix = image_suffix(names[row] or image_id)
        inside = f"{config}/{split}{severity}/{safe_name(Path(image_id).stem)}{suffix}"
        places.setdefault(inside, (file, "image", row))
        original = Path(originals[row] or image_id).stem
        columns = {
            "patient": patients[row] or f"image-{original}",
            "patient_is_standin": not patients[row],
            "split": split,
            "original_image_id": original,
            "severity": None if severities[row] is None else str(severities[row]),
        }
        if label:
            listing.add_upstream(LABELS, label, path=inside, source=source, **columns)
        elif split == "test":
            listing.add(path=inside, source=source, **columns)
        else:
            listing.exclude(inside, source, None, "no label")


WBCBENCH_HF = Source(
    name="wbcbench-hf",
    title="WBCBench 2026, later release on the hub, with patients",
    reader=_read,
    published="Hugging Face hub, https://huggingface.co/datasets/Xin-Tian/wbcbench2026 (gated)",
    licence="CC BY-NC 4.0, and a data-use agreement: research only, no re-identification, no redistribution",
    citation="Tian X, et al. WBCBench 2026: a challenge for robust white blood cell classification under class "
    "imbalance. ISBI 2026, arXiv:2604.10797.",
    layout="DIR/{pristine,degraded}/{phase1_train,phase2_train,phase2_eval,phase2_test}-*.parquet\n"
    "with columns image, image_id, label, wbcbench_split, severity, original_image_id, patient_hash",
    labels=LABELS,
    patients="known",
    paper=None,
    paper_words="all: the paper used the challenge's own folder (wbcbench), of which this is the later release.",
    notes=(
        "original_image_id and severity are columns of the manifest; severity is also part of the path: "
        "degraded/phase2_train/severity-2/….",
        "These are the cells of wbcbench: use one of the two.",
    ),
    downloads=(
        Download(
            "hf://datasets/Xin-Tian/wbcbench2026",
            evidence="The data set's name and layout are those of its public card; as it is gated, the download has "
            "not been tried. No checksum is published.",
            gated=True,
        ),
    ),
    by_hand="Request access on https://huggingface.co/datasets/Xin-Tian/wbcbench2026, create a token, run: hf auth "
    "login; then: nonet data fetch wbcbench-hf --out FOLDER",
)
