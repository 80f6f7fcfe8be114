"""What an evaluation means for its reader: a sentence or two for each question, made of the run's own numbers.

Report and model card say the same, so both take their sentences from here; plain text, escaped by the page it goes to.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from nonet.calibration.conformal import MIN_GROUPS_OF_CLASS
from nonet.cells import GRANULOCYTE_STAGES
from nonet.evaluation.calibration import MeasuredCalibration
from nonet.evaluation.members import dead_words, restarted_words
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.results import Results
from nonet.evaluation.robustness import corruption_rows
from nonet.evaluation.tables import FEW_PATIENTS
from nonet.page.numbers import number, percent, signed
from nonet.report import phrases

#: From fewer groups than this a percentile bootstrap is known to give intervals that are too narrow.
FEW_UNITS = 20
#: A patient with fewer scored images than this says little about how well one patient's cells are named.
MIN_IMAGES_OF_PATIENT = 20
_MIN_PATIENTS = 10  # to say how patients differ
_WIDE = 0.3  # an interval of F1 from which on a class is to be judged with care
_MOST = 3  # examples in a sentence
_TOO_MANY = 0.25  # a larger share of labels is never wrong in a dataset that people made with care


def expectation(found: Results) -> str:
    """Say what share of a new patient's cells will be named rightly, and how patients differ.

    Before that, where it is so, that the networks are no better than a constant.
    """
    floor = found.floor.words()
    return _expectation(found) if floor is None else f"{floor} {_expectation(found)}"


def _expectation(found: Results) -> str:
    accuracy, head = found.accuracy, found.headline
    begin = "At best, of" if reasons_for_optimism(found) else "Of"
    text = (
        f"{begin} 100 cells of a new patient, expect about {100 * accuracy[0]:.0f} to be named rightly if all are named"
        f"{phrases.between(accuracy, found, places=0, factor=100)}."
    )
    low, high = _spread_of_patients(found)
    if low is not None:
        low, high = np.ceil(round(100 * low, 6)), np.floor(round(100 * high, 6))  # rounded to where it stays true
        differ = f"one in ten has at most {low:.0f} of 100 right and one in ten at least {high:.0f}"
        many = f"Of patients with {MIN_IMAGES_OF_PATIENT} scored cells or more,"
        text += f" {many} {differ if low < high else 'eight in ten hardly differ'}."
    text += (
        f" Common classes decide these numbers. Class by class, the rare as much as the common, the ensemble finds "
        f"{100 * head['balanced_accuracy']:.0f} of 100 cells."
    )
    return text


def _spread_of_patients(found: Results) -> tuple[float | None, float | None]:
    """Return the 10th and 90th percentile of patients' shares of cells named rightly; None from too few patients."""
    oof = found.data.oof
    known = np.array([patient is not None for patient in oof.patient])
    right = pd.Series((found.predicted == oof.true)[known].astype(float))
    shares = right.groupby(oof.patient[known].astype(str)).agg(["mean", "size"])
    shares = shares.loc[shares["size"] >= MIN_IMAGES_OF_PATIENT, "mean"]
    if len(shares) < _MIN_PATIENTS:
        return None, None
    return tuple(float(share) for share in shares.quantile([0.1, 0.9]))


def judgement(found: Results) -> str:
    """Say which classes cannot be judged, or only with care, and why."""
    table = found.per_class
    absent, few, care = unjudged(table)
    parts = []
    if len(absent):
        parts.append(f"{phrases.listed(absent)}: no evaluated image.")
    for row in few.to_dict("records"):
        parts.append(f"{row['code']}: {phrases.images_of(row)}.")
    text = "Cannot be judged: " + " ".join(parts) if parts else ""
    if len(care):
        reasons = "; ".join(f"{row['code']} ({_why_care(row)})" for row in care.to_dict("records"))
        text += f"{' ' if text else ''}To be judged with care: {reasons}."
    judged = table[~table["code"].isin(pd.concat([absent, few, care])["code"])]
    known = judged.dropna(subset="f1")
    if len(known):
        best, worst = known.loc[known["f1"].idxmax()], known.loc[known["f1"].idxmin()]
        which = "Best class" if len(known) == len(table) else "Best of the others"
        text += f"{' ' if text else ''}{which}: {best['code']} (F1 {best['f1']:.2f})"
        text += f"; worst: {worst['code']} (F1 {worst['f1']:.2f})." if len(known) > 1 else "."
    return text


def unjudged(per_class: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the rows of classes without an evaluated image; of fewer than `FEW_PATIENTS`; and to judge with care.

    An image of unknown patient counts as a patient of its own, as in the bootstrap.
    """
    absent = per_class["images"] == 0
    few = ~absent & (per_class["groups"] < FEW_PATIENTS)
    small = per_class["groups"] < MIN_GROUPS_OF_CLASS
    care = ~absent & ~few & (small | (per_class["f1_high"] - per_class["f1_low"] > _WIDE))
    return per_class[absent], per_class[few], per_class[care]


def _why_care(row: dict) -> str:
    reason = phrases.images_of(row)
    if not np.isnan(row["f1_low"]):
        reason += f", F1 anywhere from {row['f1_low']:.2f} to {row['f1_high']:.2f}"
    return reason


def confusions(found: Results) -> str:
    """Say which classes are taken for which, and how many mistakes lie between neighbouring stages."""
    mistakes = commonest_mistakes(found)
    if not mistakes:
        return "No cell was taken for another class."
    listed = "; ".join(
        f"{m['true']} taken for {m['predicted']} ({m['count']:,} cells, {percent(m['share'])} of {m['true']})"
        for m in mistakes[:_MOST]
    )
    text = f"Most often: {listed}."
    lost = sorted((m for m in commonest_mistakes(found, most=None) if m["share"] > 0.5), key=lambda m: -m["share"])
    if lost:
        each = ", ".join(f"{m['true']} ({m['predicted']})" for m in lost[:_MOST])
        text += f" More than half of the cells are called one and the same other class: {each}."
    near, wrong = _near_mistakes(found)
    if near:
        text += (
            f" Of {wrong:,} mistakes {percent(near / wrong)} are between neighbouring stages of granulopoiesis, "
            "where people who read smears differ, too."
        )
    return text


def commonest_mistakes(found: Results, *, most: int | None = 5) -> list[dict]:
    """Return the ensemble's commonest confusions: true, predicted, count, and share of the true class."""
    counts = found.confusion.to_numpy()
    images, wrong = counts.sum(axis=1), counts.copy()
    np.fill_diagonal(wrong, 0)
    codes = list(found.confusion.index)
    order = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    return [
        {"true": codes[i], "predicted": codes[j], "count": int(wrong[i, j]), "share": wrong[i, j] / images[i]}
        for i, j in order
        if wrong[i, j]
    ]


def _near_mistakes(found: Results) -> tuple[int, int]:
    """Return how many mistakes are between neighbouring stages of granulopoiesis, and how many there are."""
    counts = found.confusion
    pairs = [pair for pair in pairwise(GRANULOCYTE_STAGES) if set(pair) <= set(counts.index)]
    near = sum(int(counts.loc[a, b] + counts.loc[b, a]) for a, b in pairs)
    return near, int(counts.to_numpy().sum() - np.trace(counts.to_numpy()))


def trust(found: Results) -> str:
    """Say how well probabilities are calibrated and how many cells stay unidentified, on patients not fitted on."""
    calibration = found.calibration
    if not isinstance(calibration, MeasuredCalibration):
        return "Not measured: a probability says which class is likelier, not how likely it is."
    overall, doubt = calibration.measures.iloc[0], calibration.doubt
    before, after = (number(100 * overall[f"ece_{when}"], 1) for when in ("before", "after"))
    if overall["ece_after"] > overall["ece_before"]:
        text = (
            f"Calibration made the probabilities worse: they are off by {after} percentage points on average "
            f"(expected calibration error), and by {before} without it."
        )
    else:
        text = (
            f"Probabilities are off by {after} percentage points on average (expected calibration error); before "
            f"calibration, by {before}."
        )
    reasons = []
    if calibration.settings.min_confidence > 0:
        reasons.append(f"no class reaches a probability of {100 * calibration.settings.min_confidence:g} %")
    if doubt["share_rejected"] > 0:
        reasons.append("they are rejected as an unknown cell type")
    if reasons:
        share = doubt["share_identified"]
        how_many = f"{_begun(percent(1 - share))} of the cells" if share > 0 else "All cells"
        text += f" {how_many} stay unidentified, as {' or '.join(reasons)}"
        text += f"; of the others {percent(doubt['accuracy_identified'])} are right." if share > 0 else "."
    return text


def rejected(found: Results) -> str:
    """Say how many known cells are rejected as an unknown cell type."""
    if isinstance(found.rejection, NotMeasured):
        return (
            "Not measured. Where nothing is rejected, a smudge, an artefact or a cell of another kind is given one of "
            "the classes like any other, unless it is doubtful."
        )
    row, by_class = found.rejection.iloc[0], found.rejection.iloc[1:].dropna(subset="share")
    asked, most = found.data.calibrate.false_alarm, by_class.nlargest(1, "share").iloc[0]
    share = f"{_begun(percent(row['share'], 1))} of" if row["rejected"] else f"None of {row['images']:,}"
    text = f"{share} known cells are rejected as an unknown cell type (target {100 * asked:g} %)"
    if row["rejected"] and len(by_class) > 1:
        text += f"; most often {most['class']} ({percent(most['share'], 1)})"
    return f"{text}."


def _begun(share: str) -> str:
    """Return a percentage that may begin a sentence."""
    return share.replace("<", "Less than ").replace(">", "More than ")


def robustness(found: Results) -> str:
    """Say which corruption of images costs most."""
    if found.robustness is None:
        return "Not measured for this run: nonet evaluate RUN --robustness does it."
    clean, rows = corruption_rows(found.robustness, denoised=found.data.recipe.denoise.enabled)
    by_corruption = {
        row["corruption"]: row for row in sorted(rows, key=lambda row: row["severity"])
    }  # the strongest of each
    strongest = sorted(by_corruption.values(), key=lambda row: row["macro_f1"])
    tops = {row["severity"] for row in strongest}
    at = (
        f"{tops.pop()}"
        if len(tops) == 1
        else ", ".join(f"{r['severity']} of {phrases.words(r['corruption'])}" for r in strongest)
    )
    costs = [row for row in strongest if row["difference_high"] < 0]
    begin = f"Macro-F1 of clean images is {clean:.2f} (on those drawn for this test)."
    if not costs:
        return f"{begin} Even at the highest severity tested ({at}), no corruption lowers it for certain."
    listed = ", ".join(f"{phrases.words(row['corruption'])} ({row['macro_f1']:.2f})" for row in costs[:_MOST])
    harmless = [phrases.words(row["corruption"]) for row in strongest if row["difference_high"] >= 0]
    text = f"{begin} At the strongest tried (severity {at}), most is lost to {listed}."
    return text + (f" No loss can be shown for {', '.join(harmless)}." if harmless else "")


def doubted_labels(found: Results) -> str:
    """Say how many labels are issues, and of which classes."""
    issues = found.issues
    if issues is None:
        if found.floor.nothing_learned:
            return "Not looked for: networks that are no better than chance cannot tell a wrong label from a right one."
        return "Not looked for: a run of one class has no label that another would fit better."
    num = len(issues.table)
    if not num:
        return f"None of {issues.num_images:,} labels is an issue."
    first = issues.table["given"].value_counts()
    listed = ", ".join(f"{code} ({count:,})" for code, count in first.head(_MOST).items())
    outstanding = issues.by_patient.loc[issues.by_patient["note"] != "", "name"]
    patients = ""
    if len(outstanding):
        more = "has" if len(outstanding) == 1 else "have"
        who = f"{phrases.patients(len(outstanding))} {more} more"
        patients = f" {who} than their classes explain, first {outstanding.iloc[0]}."
    if found.floor.is_below or num > _TOO_MANY * issues.num_images:
        return (
            f"{num:,} of {issues.num_images:,} labels ({100 * num / issues.num_images:.1f} %) are doubted, by networks "
            "that err too often to be believed: most of these are the networks' own mistakes. The worst are listed in "
            "issues.csv."
        )
    return (
        f"Look first at {num:,} of {issues.num_images:,} labels ({percent(num / issues.num_images, 1)}), listed in "
        f"issues.csv with the worst on top; most are labelled {listed}. They are suspicions: either the label is wrong "
        f"or the ensemble is.{patients}"
    )


def networks(found: Results) -> str:
    """Say whether these patients show that several architectures, or views, are worth it."""
    table, differences = found.table, found.differences
    single = table[table["architecture"].isin(found.data.oof.architectures)]
    single = single[single["views"] == found.data.oof.final_view_set]
    parts = []
    if len(single) > 1:
        best = single.loc[single["macro_f1"].idxmax()]
        row = differences[differences["comparison"] == f"ensemble − {best['name']}"].iloc[0]
        parts.append(f"The ensemble against the best single architecture, {best['name']}: {_verdict(row)}.")
    views = differences[differences["comparison"] == "ensemble with views − without"]
    if len(views):
        parts.append(f"Views against none: {_verdict(views.iloc[0])}.")
    return " ".join(parts) or "One architecture without views: there is nothing to compare."


def _verdict(row: pd.Series) -> str:
    low, high = row["difference_low"], row["difference_high"]
    if np.isnan(low):
        words = "one patient cannot settle it"
    elif low > 0:
        words = "better"
    else:
        words = "worse" if high < 0 else "not settled by these patients"
    interval = "" if np.isnan(low) else f" ({signed(low)} to {signed(high)})"
    return f"{signed(row['difference'])} macro-F1{interval}, {words}"


def images(found: Results) -> str:
    """Say how many images the rarest and the commonest scored class have, and how many are trained on only."""
    scored = found.per_class[found.per_class["images"] > 0]
    least, most = scored.loc[scored["images"].idxmin()], scored.loc[scored["images"].idxmax()]
    text = f"{len(found.data.oof.true):,} images are scored"
    if len(scored) > 1:
        text += f", from {least['images']:,} of {least['code']} to {most['images']:,} of {most['code']}"
        text += "; macro-F1 counts every class alike"
    num_external = len(found.data.external)
    held_out = " held out in turn," if found.expanded is not None else ""
    return text + (f". {num_external:,} more are trained on,{held_out} and not scored." if num_external else ".")


def training(found: Results) -> str:
    """Say how many networks were still getting better when they stopped."""
    data = found.data
    living = [table for member, table in data.histories.items() if not data.done[member]["dead"]]
    ended = [len(table) > 1 and table["val_macro_f1"].iloc[-1] >= table["val_macro_f1"].max() for table in living]
    text = f"{sum(ended)} of {len(ended)} networks were at their best in their last epoch"
    text += "; more epochs may help." if sum(ended) > len(ended) / 2 else "."
    if data.recipe.models.refit_head:
        text += " Curves are of the heads before they were refitted."
    text += " Held-out scores here count the external images, too." if found.expanded is not None else ""
    return " ".join([text, restarted_words(data), *dead_words(data)]).replace("  ", " ").strip()


def reasons_for_optimism(found: Results) -> list[str]:
    """Say why the scores look better than the next patient's would, a sentence each; empty where none is known."""
    data, reasons = found.data, []
    if data.recipe.folds.by == "image":
        reasons.append(
            "The folds were made by image: cells of one patient lie on both sides of the split, so the networks had "
            "seen other cells of the patients they are scored on."
        )
    evaluated = data.evaluated
    num_stand_in = int(evaluated["patient_is_standin"].fillna(False).astype(bool).sum())
    if num_stand_in:
        reasons.append(
            f"{num_stand_in:,} of {len(evaluated):,} images have a stand-in for their patient, guessed and not "
            "known: a patient may lie on both sides of the split."
        )
    unknown = data.oof.num_unknown_patients
    if unknown:
        reasons.append(
            f"The patients of {unknown:,} of {len(evaluated):,} images are unknown: each of these images is drawn "
            "by itself in the bootstrap, which makes the intervals too narrow, and its patient may lie on "
            "both sides of the split."
        )
    return reasons


def limits(found: Results) -> list[str]:
    """Say what the scores do not cover, one sentence each."""
    data, sentences = found.data, dead_words(found.data)
    absent, few, _ = unjudged(found.per_class)
    if len(absent):
        sentences.append(
            f"{phrases.listed(absent)}: no evaluated image. Such a class cannot be judged and is left out of every "
            "mean; an image of another class taken for it counts as an error."
        )
    if len(few):
        sentences.append(
            f"{phrases.listed(few)}: {phrases.fewer(found.group)}. The scores of such a class describe these cells, "
            "and its interval says little about the next patient; yet it weighs as much in the means as any other."
        )
    if data.num_never_held_out:
        sentences.append(
            f"{data.num_never_held_out:,} images are marked to be evaluated but were never held out (no fold): "
            "they were trained on and are not scored."
        )
    if data.num_not_judged:
        sentences.append(
            f"{data.num_not_judged:,} images are not scored: ensemble.json gives no weight to any member that was not "
            "trained on them."
        )
    if isinstance(found.calibration, NotMeasured) and data.calibrate.prior_strength != 0:
        sentences.append(
            "Predictions have class priors moved (calibrate.prior_strength); these images are too few to measure it, "
            "so all scores are of the ensemble as trained."
        )
    if not isinstance(found.calibration, NotMeasured) and found.is_stale:
        sentences.append(
            "ensemble.json is not calibrated as its members and settings ask for. What is said here of probabilities, "
            "prediction sets and unidentified cells holds for predictions after it is: first nonet calibrate RUN."
        )
    if found.moves_priors and found.robustness is not None:
        sentences.append("Scores of corrupted images are of the ensemble as trained, without prior correction.")
    if data.recipe.train.keep == "best":
        sentences.append(
            "Each network's epoch was chosen by its score on the fold it is then scored on "
            '(train.keep = "best"), which flatters it a little.'
        )
    num_groups = len(set(data.oof.group))
    if num_groups < FEW_UNITS:
        sentences.append(
            f"The intervals rest on {num_groups} {found.group} only; from so few they come out too narrow."
        )
    sentences.append(
        "The intervals cover the choice of patients. They do not cover another laboratory, stain or scanner, wrong "
        "labels, or a second training with another seed."
    )
    return sentences
