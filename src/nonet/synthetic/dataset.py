"""Drawn cells of all thirteen classes, whose truth is known.

Photographs of patients cannot be shipped, are labelled by people who make mistakes, and do not say how mature a cell
was. These drawings can be made anywhere from a seed and know all of that. They are used by `nonet demo`, the tests, and
every experiment that checks whether a planted error is found. They do not replace photographs: a network trained on
them knows nothing about blood.
"""

import csv
import json
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from nonet.artifacts.run import written_whole
from nonet.artifacts.storage import FolderKind, prepare_folder, writing_to
from nonet.cells import CLASSES, GRANULOCYTE_STAGES
from nonet.data.preprocess.corruptions import corrupt
from nonet.errors import DataError, StorageError, choose_from
from nonet.progress import progress
from nonet.synthetic.appearance import PatientAppearance, patient_appearance
from nonet.synthetic.cells import draw_maturity, morphology
from nonet.synthetic.paint import Painted, paint
from nonet.synthetic.plan import Plan, plan_dataset
from nonet.workers import map_in_order, worker_count

IMAGES_HEADER = ("path", "label", "patient", "split")
TRUTH_HEADER = ("path", "true_label", "given_label", "label_error", "corruption", "severity", "patient", "maturity")
_MARKER = "phantom.json"
_MIN_IMAGES_FOR_WORKERS = 500  # starting processes takes up to 2 s, the time of 200 images
_CHUNK_SIZE = 16  # images that a process draws at a time


def draw_cell(
    label: str,
    *,
    seed: int,
    size_px: int = 128,
    patient: PatientAppearance | None = None,
    maturity: float | None = None,
) -> np.ndarray:
    """Draw a white cell of a class in a field of red cells.

    Parameters
    ----------
    label : str
        One of the thirteen class codes.
    seed : int
        0 or more. The same seed and arguments give the same bytes.
    size_px : int
        Side of the image, at least 16. The frame is 24 µm wide, whatever the size.
    patient : PatientAppearance, optional
        Stain, light and focus; neutral by default.
    maturity : float in [0, 1], optional
        For the stages of granulopoiesis only: a fifth of the range is one stage, and the value determines what is
        drawn. By default one is drawn that suits the label.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3)
        RGB.

    Raises
    ------
    DataError
        When an argument is invalid; it is named.
    """
    return _draw(label, seed, size_px, patient, maturity)[0].image


def _draw(
    label: str, seed: int, size_px: int, patient: PatientAppearance | None, maturity: float | None
) -> tuple[Painted, int, float | None]:
    if label not in CLASSES:
        raise DataError(f'Unknown class "{label}".', choose_from(label, CLASSES))
    if size_px < 16:
        raise DataError(f"size_px is {size_px}, too small to recognise a cell.", "Choose at least 16.")
    if seed < 0:
        raise DataError(f"seed is {seed}.", "Choose 0 or more.")
    if maturity is not None and label not in GRANULOCYTE_STAGES:
        raise DataError(
            f"maturity is {maturity}, but {label} is not a stage of granulopoiesis.",
            f"Leave it out, or choose from {' '.join(GRANULOCYTE_STAGES)}.",
        )
    if maturity is not None and not 0 <= maturity <= 1:
        raise DataError(f"maturity is {maturity}.", "Choose from 0 (promyelocyte) to 1 (segmented neutrophil).")
    rng = np.random.default_rng([seed, CLASSES.index(label)])
    drawn = draw_maturity(label, rng)  # drawn in any case, so that a given maturity does not change the other draws
    maturity = drawn if maturity is None else maturity
    cell = morphology(label, rng, maturity)
    return paint(cell, patient or PatientAppearance(), size_px, rng), cell.num_lobes, maturity


def draw_dataset(
    out: str | Path,
    *,
    num_images: int | dict[str, int] = 1200,
    num_patients: int = 24,
    size_px: int = 96,
    seed: int = 0,
    label_error_rate: float = 0.0,
    corrupt: bool = False,
    split: str | None = None,
    num_workers: int | None = None,
) -> Path:
    """Draw a labelled data set of many patients, with a record of what is wrong in it.

    Writes `images/cell_00001.png` … in an order that reveals nothing, `images.csv` (path, label, patient, split: what a
    laboratory would hand over) and `truth.csv` (true and given label, whether they differ, corruption and severity,
    patient, maturity). The same arguments give the same bytes, whatever `num_workers`.

    Parameters
    ----------
    out : str or Path
        A new or empty folder, or one that this function wrote, whose drawings are replaced.
    num_images : int or dict
        Images in all, distributed like a blood differential (see `imbalanced_counts`), or images by class.
    num_patients : int
        Patients, each with an appearance and a distribution of classes of its own. A class is spread over at least
        four of them if it has four images.
    size_px : int
        Side of the images.
    seed : int
        Of everything.
    label_error_rate : float in [0, 1)
        Share of the images that get the label of a neighbouring class (`NEIGHBOURS`).
    corrupt : bool
        Leave about a quarter of the images pristine, and corrupt the others by noise, blur or illumination at
        severity 1 to 3.
    split : str, optional
        Value of the column `split`.
    num_workers : int, optional
        Processes; by default all cores for more than 500 images. They are spawned, so a script must call this under
        `if __name__ == "__main__"`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        When an argument is invalid; it is named.
    """
    plans = plan_dataset(num_images, num_patients, seed, label_error_rate, corrupt)
    if size_px < 16:
        raise DataError(f"size_px is {size_px}, too small to recognise a cell.", "Choose at least 16.")
    if num_workers is not None and num_workers < 1:
        raise DataError(f"num_workers is {num_workers}.", "Choose at least 1, or leave it out.")
    out = Path(out)
    _make_room(out)
    settings = {
        "num_images": num_images,
        "num_patients": num_patients,
        "size_px": size_px,
        "seed": seed,
        "label_error_rate": label_error_rate,
        "corrupt": corrupt,
        "split": split,
    }
    (out / _MARKER).write_text(json.dumps({"written_by": "nonet.synthetic.dataset.draw_dataset", **settings}, indent=1))
    (out / "images").mkdir(exist_ok=True)
    _draw_all(out, plans, size_px, num_workers)
    _write_table(out / "images.csv", IMAGES_HEADER, [(p.path, p.given_label, p.patient, split or "") for p in plans])
    _write_table(out / "truth.csv", TRUTH_HEADER, [_truth_row(plan) for plan in plans])
    return out


def _truth_row(plan: Plan) -> tuple:
    maturity = "" if plan.maturity is None else f"{plan.maturity:.4f}"
    is_error = int(plan.true_label != plan.given_label)
    corruption = (plan.corruption, plan.severity)
    return (plan.path, plan.true_label, plan.given_label, is_error, *corruption, plan.patient, maturity)


def _make_room(out: Path) -> None:
    prepare_folder(out, FolderKind("folder of drawn cells", main=_MARKER, keys={"written_by", "seed"}))
    for name in ("truth.csv", "images.csv"):
        (out / name).unlink(missing_ok=True)
    if (out / "images").is_symlink():
        raise StorageError(f"{out / 'images'} is a link, not a folder of nonet's.", hint="Move it elsewhere.")
    for file in (out / "images").glob("cell_*.png"):
        file.unlink()


def _draw_all(out: Path, plans: list[Plan], size_px: int, num_workers: int | None) -> None:
    if num_workers is None and len(plans) <= _MIN_IMAGES_FOR_WORKERS:
        num_workers = 1
    chunks = (plans[start : start + _CHUNK_SIZE] for start in range(0, len(plans), _CHUNK_SIZE))
    draw_and_save = partial(_draw_and_save, out, size_px)
    with (
        progress(total=len(plans), description="drawing cells", unit="images", delay=2, leave=False) as bar,
        closing(map_in_order(draw_and_save, chunks, worker_count(num_workers))) as drawn,
    ):
        for num_drawn in drawn:
            bar.update(num_drawn)


def _draw_and_save(out: Path, size_px: int, plans: list[Plan]) -> int:
    for plan in plans:
        image = draw_cell(
            plan.true_label,
            seed=plan.seed,
            size_px=size_px,
            patient=patient_appearance(plan.patient_seed),
            maturity=plan.maturity,
        )
        if plan.severity:
            image = corrupt(image, plan.corruption, plan.severity, seed=plan.seed)
        with writing_to(out):
            Image.fromarray(image).save(out / plan.path)
    return len(plans)


def _write_table(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with written_whole(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
