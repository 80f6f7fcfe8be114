"""The sentences of the report and the model card: a short answer to each question, from the run's own numbers.

Plain text, escaped by the page that shows it.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from nonet.cells import GRANULOCYTE_STAGES
from nonet.errors import counted
from nonet.evaluation.calibration import MeasuredCalibration
from nonet.evaluation.members import dead_words, restarted_words
from nonet.evaluation.not_measured import NotMeasured
from nonet.evaluation.results import Results
from nonet.evaluation.robustness import corruption_rows
from nonet.page.numbers import number, percent, signed
from nonet.report.caveats import hard_to_score, list_classes, reasons_for_optimism

#: Patients with fewer scored images than this are left out of the spread over patients.
MIN_IMAGES_OF_PATIENT = 20
_MIN_PATIENTS = 10  # with fewer, nothing is said about how patients differ
_MOST = 3  # examples in a sentence
_TOO_MANY = 0.25  # no carefully labelled dataset has a larger share of wrong labels


def expectation(results: Results) -> str:
    """Return the share of a new patient's cells expected to be classified correctly, and how patients differ.

    Begins with a warning if the networks are no better than always predicting one class.
    """
    baseline = results.baseline.words()
    return _expectation(results) if baseline is None else f"{baseline} {_expectation(results)}"


def _expectation(results: Results) -> str:
    accuracy, head = results.accuracy, results.headline
    begin = "At best, of" if reasons_for_optimism(results) else "Of"
    text = (
        f"{begin} 100 cells of a new patient, expect about {100 * accuracy[0]:.0f} to be classified correctly if "
        f"none is left unidentified"
        f"{_interval(accuracy, results)}."
    )
    spread = _spread_of_patients(results)
    if spread is not None:
        low, high = np.ceil(round(100 * spread[0], 6)), np.floor(round(100 * spread[1], 6))  # outwards, so it is true
        differ = f"one in ten has at most {low:.0f} of 100 correct and one in ten at least {high:.0f}"
        many = f"Of patients with at least {MIN_IMAGES_OF_PATIENT} scored cells,"
        text += f" {many} {differ if low < high else 'eight in ten hardly differ'}."
    text += (
        f" Common classes dominate these numbers. With every class weighted equally, the ensemble recognises "
        f"{100 * head['balanced_accuracy']:.0f} of 100 cells (balanced accuracy)."
    )
    return text


def _spread_of_patients(results: Results) -> tuple[float, float] | None:
    """Return the 10th and 90th percentile over patients of the share of correct cells; None for too few patients."""
    oof = results.data.oof
    known = np.array([patient is not None for patient in oof.patient])
    correct = pd.Series((results.predicted == oof.true)[known].astype(float))
    by_patient = correct.groupby(oof.patient[known].astype(str)).agg(["mean", "size"])
    shares = by_patient.loc[by_patient["size"] >= MIN_IMAGES_OF_PATIENT, "mean"]
    if len(shares) < _MIN_PATIENTS:
        return None
    return float(shares.quantile(0.1)), float(shares.quantile(0.9))


def class_scores(results: Results) -> str:
    """Return which classes have too few cells or uncertain scores, and the best and the worst of the others."""
    table = results.per_class
    absent, few, uncertain = hard_to_score(table)
    parts = []
    if len(absent):
        parts.append(f"{list_classes(absent)}: no evaluated image.")
    for row in few.to_dict("records"):
        parts.append(f"{row['code']}: {_images_and_patients(row)}.")
    text = "Too few cells to score: " + " ".join(parts) if parts else ""
    if len(uncertain):
        reasons = "; ".join(f"{row['code']} ({_why_uncertain(row)})" for row in uncertain.to_dict("records"))
        text += f"{' ' if text else ''}Uncertain scores: {reasons}."
    others = table[~table["code"].isin(pd.concat([absent, few, uncertain])["code"])]
    known = others.dropna(subset="f1")
    if len(known):
        best, worst = known.iloc[int(known["f1"].argmax())], known.iloc[int(known["f1"].argmin())]
        which = "Best class" if len(known) == len(table) else "Best of the other classes"
        text += f"{' ' if text else ''}{which}: {best['code']} (F1 {best['f1']:.2f})"
        text += f"; worst: {worst['code']} (F1 {worst['f1']:.2f})." if len(known) > 1 else "."
    return text


def _why_uncertain(row: dict) -> str:
    reason = _images_and_patients(row)
    if not np.isnan(row["f1_low"]):
        reason += f", F1 between {row['f1_low']:.2f} and {row['f1_high']:.2f}"
    return reason


def confusions(results: Results) -> str:
    """Return the most frequent confusions, and how many mistakes are between neighbouring stages."""
    mistakes = _frequent_confusions(results)
    if not mistakes:
        return "No cell was misclassified."
    listed = "; ".join(
        f"{m['true']} as {m['predicted']} ({m['count']:,} cells, {percent(m['share'])} of {m['true']})"
        for m in mistakes[:_MOST]
    )
    text = f"Most frequent confusions: {listed}."
    lost = sorted((m for m in mistakes if m["share"] > 0.5), key=lambda m: -m["share"])
    if lost:
        each = ", ".join(f"{m['true']} ({m['predicted']})" for m in lost[:_MOST])
        text += f" More than half of the cells are predicted as one other class: {each}."
    near, wrong = _near_mistakes(results)
    if near:
        text += (
            f" Of {wrong:,} mistakes, {percent(near / wrong)} are between neighbouring stages of granulopoiesis, "
            "where human readers disagree as well."
        )
    return text


def _frequent_confusions(results: Results) -> list[dict]:
    """Return the ensemble's confusions, most frequent first: true, predicted, count, and share of the true class."""
    counts = results.confusion.to_numpy()
    images, wrong = counts.sum(axis=1), counts.copy()
    np.fill_diagonal(wrong, 0)
    codes = list(results.confusion.index)
    order = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")]
    return [
        {"true": codes[i], "predicted": codes[j], "count": int(wrong[i, j]), "share": wrong[i, j] / images[i]}
        for i, j in order
        if wrong[i, j]
    ]


def _near_mistakes(results: Results) -> tuple[int, int]:
    """Return the number of mistakes between neighbouring stages of granulopoiesis, and of all mistakes."""
    counts, index = results.confusion.to_numpy(), {code: i for i, code in enumerate(results.confusion.index)}
    pairs = [(index[a], index[b]) for a, b in pairwise(GRANULOCYTE_STAGES) if a in index and b in index]
    near = sum(int(counts[a, b] + counts[b, a]) for a, b in pairs)
    return near, int(counts.sum() - np.trace(counts))


def stage_errors(results: Results) -> str:
    """Return how far the granulocyte stages are called too early or too late, on average and in absolute terms."""
    table = results.stage_errors
    if isinstance(table, NotMeasured):
        return table.reason
    row = table.iloc[0]
    cells = f"over {counted(row['images'], 'cell', 'cells')} whose true and predicted class are both stages"
    if row["other_class"]:
        cells += f" ({row['other_class']:,} of a stage are predicted as another class and not included)"
    if row["absolute_error"] == 0:
        return f"No stage is called too early or too late, {cells}."
    value, low, high = row["signed_error"], row["signed_error_low"], row["signed_error_high"]
    if np.isnan(low):
        text = f"Stages are called {_steps(value)} on average."
    elif low <= 0 <= high:
        text = (
            f"Stages are called neither significantly too early nor too late: {_steps(value)} on average "
            f"({results.percent} % interval {_steps(low)} to {_steps(high)})."
        )
    else:
        ends = "–".join(number(end, 2) for end in sorted((abs(low), abs(high))))
        text = f"Stages are called {_steps(value)} on average ({results.percent} % interval {ends})."
    by_stage = table.iloc[1:]
    most = by_stage.iloc[int(by_stage["images"].argmax())]
    return (
        f"{text} The mean absolute error is {number(row['absolute_error'], 2)} steps, {cells}. "
        f"{by_stage['class'].iloc[0]} can only be called too late and {by_stage['class'].iloc[-1]} only too early, and "
        f"{percent(most['images'] / row['images'])} of these cells are {most['class']}: compare the stages one by one "
        "(stage_errors.csv)."
    )


def _steps(error: float) -> str:
    """Return a signed stage error as "0.12 steps too early"."""
    size = number(abs(error), 2)
    if not float(size):
        return f"{size} steps"
    return f"{size} steps too {'early' if error < 0 else 'late'}"


def calibration(results: Results) -> str:
    """Return how well probabilities are calibrated, and how many cells are left unidentified, out of fold."""
    measured = results.calibration
    if not isinstance(measured, MeasuredCalibration):
        return "Not measured: probabilities rank the classes, but may be too high or too low."
    overall, doubt = measured.measures.iloc[0], measured.doubt
    before, after = (number(100 * overall[f"ece_{when}"], 1) for when in ("before", "after"))
    if overall["ece_after"] > overall["ece_before"]:
        text = (
            f"Calibration made the probabilities worse: they are off by {after} percentage points on average "
            f"(expected calibration error), by {before} without it."
        )
    else:
        text = (
            f"Probabilities are off by {after} percentage points on average (expected calibration error); before "
            f"calibration, by {before}."
        )
    reasons = []
    if measured.settings.min_confidence > 0:
        reasons.append(f"no class reaches a probability of {100 * measured.settings.min_confidence:g} %")
    if doubt["share_rejected"] > 0:
        reasons.append("they are rejected as an unknown cell type")
    if reasons:
        share = doubt["share_identified"]
        how_many = f"{_to_begin(percent(1 - share))} of the cells" if share > 0 else "All cells"
        text += f" {how_many} are left unidentified because {' or '.join(reasons)}"
        text += f"; {percent(doubt['accuracy_identified'])} of the others are correct." if share > 0 else "."
    return text


def rejection(results: Results) -> str:
    """Return how many known cells are rejected as an unknown cell type."""
    if isinstance(results.rejection, NotMeasured):
        return (
            "Not measured. If nothing is rejected, a smudge, an artefact or an unknown cell type gets one of the "
            "classes, unless its probability is low."
        )
    row, by_class = results.rejection.iloc[0], results.rejection.iloc[1:].dropna(subset="share")
    target, most = results.data.calibrate.false_alarm, by_class.nlargest(1, "share").iloc[0]
    share = f"{_to_begin(percent(row['share'], 1))} of" if row["rejected"] else f"None of {row['images']:,}"
    text = f"{share} known cells are rejected as an unknown cell type (target {100 * target:g} %)"
    if row["rejected"] and len(by_class) > 1:
        text += f"; most often {most['class']} ({percent(most['share'], 1)})"
    if results.unknown is not None:
        found = results.unknown.iloc[0]
        text += f". Of {found['images']:,} unknown cells, {percent(found['share'])} are found"
    return f"{text}."


def _to_begin(share: str) -> str:
    """Return a percentage in a form that can begin a sentence."""
    return share.replace("<", "Less than ").replace(">", "More than ")


def robustness(results: Results) -> str:
    """Return which corruptions cost most macro-F1."""
    if results.robustness is None:
        return 'Not measured for this run; "nonet evaluate RUN --robustness" does.'
    clean, rows = corruption_rows(results.robustness, denoised=results.data.recipe.denoise.enabled)
    # The row of each corruption's highest severity: later rows replace earlier ones.
    by_corruption = {row["corruption"]: row for row in sorted(rows, key=lambda row: row["severity"])}
    strongest = sorted(by_corruption.values(), key=lambda row: row["macro_f1"])
    highest = {row["severity"] for row in strongest}
    at = ", ".join(f"{row['severity']} of {_words(row['corruption'])}" for row in strongest)
    if len(highest) == 1:
        at = f"{highest.pop()}"
    costs = [row for row in strongest if row["difference_high"] < 0]
    begin = f"Macro-F1 on clean images: {clean:.2f} (of those drawn for this test)."
    if not costs:
        return f"{begin} Even at the highest severity tested ({at}), no corruption lowers it significantly."
    listed = ", ".join(f"{_words(row['corruption'])} ({row['macro_f1']:.2f})" for row in costs[:_MOST])
    harmless = [_words(row["corruption"]) for row in strongest if row["difference_high"] >= 0]
    text = f"{begin} At the highest severity tested ({at}), most is lost to {listed}."
    return text + (f" No significant loss: {', '.join(harmless)}." if harmless else "")


def label_issues(results: Results) -> str:
    """Return how many labels are probably wrong, and of which classes."""
    issues = results.issues
    if issues is None:
        if results.baseline.nothing_learned:
            return "Not searched: networks that are no better than chance cannot tell wrong labels from correct ones."
        return "Not searched: with a single class, no other label could be right."
    num = len(issues.table)
    if not num:
        return f"None of {issues.num_images:,} labels is suspicious."
    first = issues.table["given"].value_counts()
    listed = ", ".join(f"{code} ({count:,})" for code, count in first.head(_MOST).items())
    outstanding = issues.by_patient.loc[issues.by_patient["note"] != "", "name"]
    patients = ""
    if len(outstanding):
        has = "has" if len(outstanding) == 1 else "have"
        who = f"{_num_patients(len(outstanding))} {has} more"
        patients = f" {who} than their classes explain, first {outstanding.iloc[0]}."
    if results.baseline.is_below or num > _TOO_MANY * issues.num_images:
        return (
            f"{num:,} of {issues.num_images:,} labels ({100 * num / issues.num_images:.1f} %) look wrong to networks "
            "that err too often to be trusted: most are the networks' own mistakes. issues.csv lists the worst."
        )
    return (
        f"Review {num:,} of {issues.num_images:,} labels first ({percent(num / issues.num_images, 1)}); issues.csv "
        f"lists them, the most suspicious first. Most are labelled {listed}. Either the label is wrong or the ensemble "
        f"is.{patients}"
    )


def networks(results: Results) -> str:
    """Return whether several architectures, and views, improve macro-F1 on these patients."""
    table, differences = results.table, results.differences
    single = table[table["architecture"].isin(results.data.oof.architectures)]
    single = single[single["views"] == results.data.oof.final_view_set]
    parts = []
    if len(single) > 1:
        best = single.iloc[int(single["macro_f1"].argmax())]
        row = differences[differences["comparison"] == f"ensemble − {best['name']}"].iloc[0]
        parts.append(f"Ensemble versus the best single architecture ({best['name']}): {_verdict(row)}.")
    views = differences[differences["comparison"] == "ensemble with views − without"]
    if len(views):
        parts.append(f"With views versus without: {_verdict(views.iloc[0])}.")
    return " ".join(parts) or "One architecture without views: nothing to compare."


def _verdict(row: pd.Series) -> str:
    low, high = row["difference_low"], row["difference_high"]
    if np.isnan(low):
        words = "not decidable from one patient"
    elif low > 0:
        words = "better"
    else:
        words = "worse" if high < 0 else "not significant on these patients"
    interval = "" if np.isnan(low) else f" ({signed(low)} to {signed(high)})"
    return f"{signed(row['difference'])} macro-F1{interval}, {words}"


def images(results: Results) -> str:
    """Return the number of images of the rarest and the most common scored class, and of external images."""
    scored = results.per_class[results.per_class["images"] > 0]
    least, most = scored.iloc[int(scored["images"].argmin())], scored.iloc[int(scored["images"].argmax())]
    text = f"{len(results.data.oof.true):,} images are scored"
    if len(scored) > 1:
        text += f", from {least['images']:,} of {least['code']} to {most['images']:,} of {most['code']}"
        text += "; macro-F1 weights every class equally"
    num_external = len(results.data.external)
    held_out = " and held out in turn" if results.expanded is not None else ""
    return text + (f". {num_external:,} more are used for training{held_out}, but not scored." if num_external else ".")


def training(results: Results) -> str:
    """Return how many networks were still improving when training stopped."""
    data = results.data
    living = [table for member, table in data.histories.items() if not data.done[member]["dead"]]
    ended = [len(table) > 1 and table["val_macro_f1"].iloc[-1] >= table["val_macro_f1"].max() for table in living]
    text = f"{sum(ended)} of {len(ended)} networks scored best in their last epoch"
    text += "; more epochs may help." if sum(ended) > len(ended) / 2 else "."
    if data.recipe.models.refit_head:
        text += " The curves show the heads before they were refitted."
    text += " Held-out scores here include the external images." if results.expanded is not None else ""
    return " ".join([text, restarted_words(data), *dead_words(data)]).replace("  ", " ").strip()


def _interval(share: tuple[float, float, float], results: Results) -> str:
    """Return a share's interval in percent, in brackets; "" if it has none."""
    _, low, high = share
    return "" if np.isnan(low) else f" ({results.percent} % interval {100 * low:.0f} to {100 * high:.0f})"


def _words(corruption: str) -> str:
    return corruption.replace("_", " ")


def _num_images(num: int) -> str:
    return "1 image" if num == 1 else f"{num:,} images"


def _num_patients(num: int) -> str:
    return "1 patient" if num == 1 else f"{num:,} patients"


def _images_and_patients(row: dict) -> str:
    """Return "5 images of 2 patients" for a class's row, or "5 images" if each is a group of its own."""
    if not pd.isna(row["patients"]):
        return f"{_num_images(row['images'])} of {_num_patients(row['patients'])}"
    return _num_images(row["images"]) + ("" if row["groups"] == row["images"] else ", not all of known patients")
