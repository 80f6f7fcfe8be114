"""`nonet table`: runs side by side on the images that all of them hold out, with paired differences."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from helpers.run_folders import make_run
from helpers.sealing import seal
from nonet.errors import DataError
from nonet.evaluation.across_runs import table
from nonet.report.evaluate import evaluate

FAST = {"num_resamples": 100}


def change(run, **columns):
    """Change columns of a run's manifest, each by a function of the manifest; image_id in its other files, too."""
    manifest = pd.read_parquet(run / "manifest.parquet")
    changed = manifest.assign(**{name: function(manifest) for name, function in columns.items()})
    changed.to_parquet(run / "manifest.parquet")
    new = dict(zip(manifest["image_id"], changed["image_id"]))
    label, patient = (dict(zip(changed["image_id"], changed[name])) for name in ("label", "patient"))
    oof = pd.read_parquet(run / "oof.parquet")
    oof["image_id"] = oof["image_id"].map(new)
    oof = oof.assign(label=oof["image_id"].map(label), patient=oof["image_id"].map(patient))
    oof.to_parquet(run / "oof.parquet")
    folds = pd.read_csv(run / "folds.csv")
    folds.assign(image_id=folds["image_id"].map(new)).to_csv(run / "folds.csv", index=False)
    seal(run)
    return run


def leave_out(run, image_ids):
    """Take images out of a run, as if its dataset never had them."""
    for name, read, write in (
        ("manifest.parquet", pd.read_parquet, lambda t, path: t.to_parquet(path)),
        ("oof.parquet", pd.read_parquet, lambda t, path: t.to_parquet(path)),
        ("folds.csv", pd.read_csv, lambda t, path: t.to_csv(path, index=False)),
    ):
        kept = read(run / name)
        write(kept[~kept["image_id"].isin(image_ids)], run / name)
    seal(run)
    return run


def shas(manifest):
    return [f"{i:064x}" for i in range(len(manifest))]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs on one set of images, other networks."""
    folder = tmp_path_factory.mktemp("runs")
    first = change(make_run(folder / "alone", num_images=400), sha256=shas)
    second = shutil.copytree(first, folder / "expanded")
    oof = pd.read_parquet(second / "oof.parquet")
    columns = [column for column in oof if column.startswith("logit_")]
    oof[columns] += np.random.default_rng(3).normal(0, 0.8, (len(oof), len(columns)))
    oof.to_parquet(second / "oof.parquet")
    seal(second)
    return first, second


def predicted(run, images):
    """The ensemble's classes with views of these images, by pandas alone, and their labels and patients."""
    oof = pd.read_parquet(run / "oof.parquet")
    columns = [column for column in oof if column.startswith("logit_")]
    mean = oof[oof["view_set"] == "dihedral"].groupby("image_id")[columns].mean().loc[images]
    calls = np.array([column.removeprefix("logit_") for column in columns])[mean.to_numpy().argmax(axis=1)]
    about = oof.drop_duplicates("image_id").set_index("image_id").loc[images]
    return calls, about["label"].to_numpy(), about["patient"].to_numpy()


@pytest.mark.slow
def test_rows_are_those_of_evaluate_where_all_images_are_shared(two):
    made = table(two, **FAST)
    for run in two:
        alone = evaluate(run, **FAST)
        alone = alone[alone["architecture"] != "ensemble, calibrated"]
        here = made.table[made.table["run"] == run.name].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(here, alone.reset_index(drop=True))
    assert made.notes == ["Scored on the 400 evaluated images that all 2 runs hold out."]


@pytest.mark.slow
def test_only_shared_images_count_and_differences_are_paired_over_patients(two, tmp_path):
    runs = [shutil.copytree(run, tmp_path / run.name) for run in two]
    leave_out(runs[0], [f"cell-{i:05d}" for i in range(50, 90)])
    leave_out(runs[1], [f"cell-{i:05d}" for i in range(80, 150)])
    made = table(runs, num_resamples=400)
    images = [f"cell-{i:05d}" for i in range(400) if not 50 <= i < 150]
    assert (made.table["images"] == 300).all()
    notes = "\n".join(made.notes)
    assert re.search("alone.* 60 .*360", notes) and re.search("expanded.* 30 .*330", notes)
    (one, true, patient), (other, _, _) = (predicted(run, images) for run in runs)
    row = made.differences.query("views == 'final'").iloc[0]
    assert (row["run"], row["minus"], row["architecture"]) == ("expanded", "alone", "ensemble")
    difference = f1_score(true, other, average="macro") - f1_score(true, one, average="macro")
    assert row["macro_f1"] == pytest.approx(difference)

    # The paired bootstrap again, image by image: the same patients are drawn for both runs.
    rng, values = np.random.default_rng(0), []
    rows_of = {p: np.flatnonzero(patient == p) for p in sorted(set(patient))}
    for _ in range(400):
        drawn = np.concatenate([rows_of[p] for p in rng.choice(list(rows_of), len(rows_of))])
        present = sorted(set(true[drawn]))
        f1 = [f1_score(true[drawn], c[drawn], labels=present, average="macro", zero_division=0) for c in (one, other)]
        values.append(f1[1] - f1[0])
    spread = np.std(values)
    low, high = np.quantile(values, [0.025, 0.975])
    assert abs(row["macro_f1_low"] - low) < 0.4 * spread
    assert abs(row["macro_f1_high"] - high) < 0.4 * spread


def test_a_run_against_itself_differs_by_nothing(two, tmp_path):
    made = table([two[0], shutil.copytree(two[0], tmp_path / "copy")], **FAST)
    numbers = made.differences.drop(columns=["run", "minus", "architecture", "views"])
    assert (numbers == 0).all(axis=None)
    assert len(made.differences) == 9  # four rows in two view sets, and the ensembles with their own


def test_images_are_the_same_by_content_where_sources_are_named_otherwise(two, tmp_path):
    renamed = change(
        shutil.copytree(two[1], tmp_path / "renamed"),
        image_id=lambda m: "wbc-bench/" + m["image_id"],
        patient=lambda m: "wbc-bench/" + m["patient"],
    )
    plain, made = table(two, **FAST), table([two[0], renamed], **FAST)
    numbers = [column for column in plain.table if column.startswith(("macro", "balanced"))]
    pd.testing.assert_frame_equal(made.table[numbers], plain.table[numbers])
    assert made.notes == plain.notes  # other names of the same patients are no difference


def test_other_patients_content_and_folds_are_reported(two, tmp_path):
    other = change(
        shutil.copytree(two[1], tmp_path / "other"),
        patient=lambda m: "Q" + m["image_id"].str[-1],
        sha256=lambda m: ["f" + sha[1:] if i < 7 else sha for i, sha in enumerate(m["sha256"])],
    )
    recipe = (other / "recipe.toml").read_text()
    (other / "recipe.toml").write_text(recipe.replace('by = "patient"', 'by = "image"'))
    seal(other)
    notes = " ".join(table([two[0], other], **FAST).notes)
    assert re.search("other .*patients .*alone", notes)
    assert re.search("other: 7 .*image_id", notes)
    assert "alone by patient, other by image" in notes


def test_a_class_that_one_run_does_not_know_is_reported_and_counts_as_wrong(two, tmp_path):
    lacking = shutil.copytree(two[1], tmp_path / "lacking")
    manifest = pd.read_parquet(lacking / "manifest.parquet")
    leave_out(lacking, manifest.loc[manifest["label"] == "PC", "image_id"].tolist())
    oof = pd.read_parquet(lacking / "oof.parquet")
    oof.drop(columns="logit_PC").to_parquet(lacking / "oof.parquet")
    for name in ("ensemble.json", "provenance.json"):
        kept = json.loads((lacking / name).read_text())
        kept["classes"].remove("PC")
        kept.get("trained_priors", {}).pop("PC", None)
        (lacking / name).write_text(json.dumps(kept))
    seal(lacking)
    made = table([two[0], lacking], **FAST)
    assert "lacking" not in " ".join(note for note in made.notes if "does not know" in note)  # no shared image of it
    images = manifest.loc[manifest["evaluate"] & (manifest["label"] != "PC"), "image_id"].tolist()
    calls, true, _ = predicted(two[0], images)  # of the run that may still say PC
    row = made.table.query("run == 'alone' and architecture == 'ensemble' and views == 'dihedral'").iloc[0]
    expected = f1_score(true, calls, labels=sorted(set(true)), average="macro")
    assert row["macro_f1"] == pytest.approx(expected)

    knows = table([lacking, two[0]], **FAST)
    assert any(re.search(r"alone .*\bPC\b.* lacking", note) for note in knows.notes)


def test_what_cannot_be_compared_is_refused(two, tmp_path, refused):
    assert "two runs" in refused("table", two[0])
    assert "twice" in refused("table", two[0], two[0].parent / "." / "alone")
    relabelled = change(
        shutil.copytree(two[1], tmp_path / "relabelled"),
        label=lambda m: ["SNE" if i in (3, 4) else code for i, code in enumerate(m["label"])],
    )
    said = refused("table", two[0], relabelled)
    assert re.search("of 400 .*relabelled .*alone.* cell-00003", said)
    unrelated = change(
        shutil.copytree(two[1], tmp_path / "unrelated"),
        image_id=lambda m: "x/" + m["image_id"],
        sha256=lambda m: [f"{i + 5000:064x}" for i in range(len(m))],
    )
    assert "no evaluated image in common" in refused("table", two[0], unrelated)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "is not empty" in refused("table", *two, "--out", tmp_path / "mine")
    with pytest.raises(DataError, match="at least two runs"):
        table([])


def test_from_the_command_line(two, tmp_path, nonet):
    for _ in range(2):  # what it wrote it may overwrite
        status, out, err = nonet("table", *two, "--resamples", 50, "--out", tmp_path / "out")
        assert status == 0, err
    made = table(two, num_resamples=50)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "differences.csv",
        "table.csv",
        "table.md",
    ]
    kept = pd.read_csv(tmp_path / "out" / "table.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(kept, made.table)
    value = made.differences.query("views == 'final'")["macro_f1"].iloc[0]
    assert "expanded − alone" in out and f"{value:+.3f}".replace("-", "−") in out
    assert "expanded − alone" in (tmp_path / "out" / "table.md").read_text()
