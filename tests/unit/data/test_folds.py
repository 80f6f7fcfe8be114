"""Folds: every image in one, no patient and no copy on both sides, whatever the manifest; edits are obeyed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.data.folds import _none_empty, check_folds, make_folds, read_folds, write_folds
from nonet.errors import DataError


def manifest_of(labels, patients, **columns):
    n = len(labels)
    table = pd.DataFrame({"label": labels, "patient": patients}, dtype=object)
    table["image_id"] = [f"s/{i:04d}.png" for i in range(n)]
    table["sha256"] = [f"{i:064x}" for i in range(n)]
    table = table.assign(source="s", split=None, evaluate=True, patient_is_standin=False)
    return table.assign(**columns)


@pytest.fixture
def manifest():
    rng = np.random.default_rng(0)
    patients = [f"s/P{i:02d}" for i in rng.integers(0, 30, 600)]
    return manifest_of(rng.choice(["SNE", "LY", "BL"], 600, p=[0.6, 0.3, 0.1]).tolist(), patients)


@st.composite
def manifests(draw):
    n = draw(st.integers(1, 60))
    rows = st.lists(
        st.tuples(
            st.sampled_from(["BL", "LY", "PLY", "SNE", None]),
            st.sampled_from([None, *"ABCDEFGH"]),
            st.sampled_from([None, None, "train", "test"]),
        ),
        min_size=n,
        max_size=n,
    )
    labels, patients, splits = zip(*draw(rows))
    evaluate = {patient: draw(st.booleans()) for patient in set(patients)}
    return manifest_of(labels, patients, split=splits, evaluate=[evaluate[p] for p in patients])


@settings(max_examples=150)
@given(manifests(), st.integers(2, 5), st.sampled_from(["patient", "image"]), st.integers(0, 3))
def test_folds_partition_the_images_and_part_no_patient(manifest, num_folds, by, seed):
    try:
        folds, _ = make_folds(manifest, num_folds=num_folds, by=by, seed=seed)
    except DataError as error:
        scored = manifest[manifest["label"].notna() & (manifest["split"] != "test") & manifest["evaluate"]]
        groups = scored["patient"].fillna(scored["image_id"]) if by == "patient" else scored["image_id"]
        assert groups.nunique() < num_folds, error
        return
    table = folds.merge(manifest, on="image_id", validate="one_to_one")
    in_folds = manifest["label"].notna() & (manifest["split"] != "test")
    assert set(folds["image_id"]) == set(manifest.loc[in_folds, "image_id"])
    assert (table["fold"].notna() == table["evaluate"]).all()
    assert set(table["fold"].dropna()) == set(range(num_folds))
    if by == "patient":
        assert (table.groupby("patient")["fold"].nunique() <= 1).all()
    check_folds(folds, manifest, by)


def test_folds_are_stratified(manifest):
    folds, notes = make_folds(manifest)
    table = folds.merge(manifest, on="image_id")
    shares = pd.crosstab(table["fold"], table["label"], normalize="index")
    assert (shares.max() - shares.min()).max() < 0.08
    assert table["fold"].value_counts().min() > 150
    assert notes == []


def test_seed_decides(manifest):
    one, two, other = (make_folds(manifest, seed=seed)[0] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(other)
    assert str(one["fold"].dtype) == "Int64"


def test_few_large_patients_leave_no_fold_empty():
    patients = ["s/A"] * 30 + ["s/B"] * 2 + ["s/C"]
    for seed in range(20):
        folds, _ = make_folds(manifest_of(["SNE"] * 33, patients), seed=seed)
        assert folds["fold"].nunique() == 3


def test_fold_left_empty_gets_a_group():
    # A class in one patient only draws the other groups into one fold.
    groups = np.array(["A", "A", "B", "C", "C"])
    fold = _none_empty(np.array([0, 0, 0, 1, 1]), groups, 3, np.ones(5, dtype=bool))
    assert fold.tolist() == [0, 0, 2, 1, 1]


def test_fold_of_external_images_alone_gets_an_evaluated_group_with_all_of_its_images():
    groups = np.array(["A", "A", "B", "B", "C", "D"])
    evaluated = np.array([True, True, True, False, True, False])
    fold = _none_empty(np.array([0, 0, 0, 0, 1, 2]), groups, 3, evaluated)
    assert fold.tolist() == [0, 0, 2, 2, 1, 2]


def test_unknown_patients_count_each_for_itself_with_a_note(manifest):
    manifest.loc[:99, "patient"] = None
    folds, notes = make_folds(manifest)
    assert folds["fold"][:100].nunique() == 3
    assert any("100 of 600" in note and "unknown" in note for note in notes)


def test_standins_are_noted(manifest):
    assert any("stand-ins" in note for note in make_folds(manifest.assign(patient_is_standin=True))[1])


def test_folds_by_image_are_noted_as_too_good(manifest):
    assert any("patient" in note for note in make_folds(manifest, by="image")[1])


def test_too_few_patients_is_an_error(manifest):
    with pytest.raises(DataError, match=r"1 patient.*3 folds"):
        make_folds(manifest.assign(patient="s/P"))


@pytest.mark.parametrize(("num_folds", "by"), [(1, "patient"), (3, "patients")])
def test_impossible_settings_are_errors(manifest, num_folds, by):
    with pytest.raises(DataError, match=f"{num_folds} folds|{by}"):
        make_folds(manifest, num_folds=num_folds, by=by)


def test_copies_of_an_image_stay_together_even_by_image(manifest):
    manifest["sha256"] = [f"{i // 2:064x}" for i in range(len(manifest))]
    folds, _ = make_folds(manifest, by="image")
    assert (folds["fold"].to_numpy()[::2] == folds["fold"].to_numpy()[1::2]).all()


@pytest.mark.parametrize("by", ["patient", "image"])
@pytest.mark.parametrize("seed", range(5))
def test_versions_of_one_image_stay_together_whatever_is_known_of_their_patient(manifest, by, seed):
    versions = manifest.sample(200, random_state=seed).assign(patient=lambda t: t["patient"].where(t.index % 2 == 0))
    versions = versions.assign(image_id=versions["image_id"] + "-worse", sha256="w" + versions["sha256"])
    versions["original_image_id"] = versions["image_id"].str.removesuffix("-worse")
    table = pd.concat([manifest.assign(original_image_id=manifest["image_id"]), versions], ignore_index=True)
    table.loc[:50, "original_image_id"] = None  # not known of every image
    folds, _ = make_folds(table, by=by, seed=seed)
    found = folds.merge(table, on="image_id")
    assert (found.groupby("original_image_id")["fold"].nunique() == 1).all()
    assert set(found["fold"]) == {0, 1, 2}
    if by == "patient":
        assert (found.groupby("patient")["fold"].nunique() == 1).all()
    check_folds(folds, table, by)


def test_folds_are_the_same_where_no_image_has_versions(manifest):
    expected, _ = make_folds(manifest, by="image")
    found, _ = make_folds(manifest.assign(original_image_id=None), by="image")
    pd.testing.assert_frame_equal(found, expected)


# The file.


def test_file_comes_back_as_written(manifest, tmp_path):
    manifest.loc[manifest["patient"] == "s/P03", "evaluate"] = False
    folds, _ = make_folds(manifest)
    write_folds(tmp_path / "folds.csv", folds)
    pd.testing.assert_frame_equal(read_folds(tmp_path / "folds.csv", manifest, by="patient"), folds, check_dtype=False)


def test_edit_by_hand_is_obeyed(manifest, tmp_path):
    folds, _ = make_folds(manifest)
    mine = manifest["patient"].isin(["s/P00", "s/P01"]).to_numpy()
    folds["fold"] = folds["fold"].where(~mine, 2)
    write_folds(tmp_path / "folds.csv", folds)
    read = read_folds(tmp_path / "folds.csv", manifest, by="patient")
    assert (read.loc[mine, "fold"] == 2).all()


def test_file_saved_by_a_spreadsheet_is_read(manifest, tmp_path):
    folds, _ = make_folds(manifest)
    text = folds.astype({"fold": float}).to_csv(index=False, lineterminator="\r\n")
    (tmp_path / "folds.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert (read_folds(tmp_path / "folds.csv", manifest, by="patient")["fold"] == folds["fold"]).all()


def drop_last(lines):
    return lines[:-1]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (drop_last, "lacks 1 images"),
        (lambda lines: [*lines, "s/stranger.png,0"], "first s/stranger.png"),
        (lambda lines: [*lines, lines[-1]], "twice"),
        (lambda lines: [*drop_last(lines), lines[-1].split(",")[0] + ",first"], "fold 'first'"),
        (lambda lines: [*drop_last(lines), lines[-1].split(",")[0] + ",-1"], "fold '-1'"),
        (lambda lines: [*drop_last(lines), lines[-1].split(",")[0] + ",1.5"], "fold '1.5'"),
        (lambda lines: [lines[0], *(line.split(",")[0] + ",0" for line in lines[1:])], "uses folds 0"),
        (lambda lines: [line.replace(",2", ",7") for line in lines], "uses folds 0, 1, 7"),
        (lambda lines: ["image,fold", *lines[1:]], "columns image_id,fold"),
        (lambda lines: [line.replace(",", ";") for line in lines], "columns image_id,fold"),
        (lambda lines: [], "columns image_id,fold"),
        (lambda lines: [*lines, "a,b,c,d"], "columns image_id,fold"),
    ],
)
def test_wrong_files_are_explained(manifest, tmp_path, edit, words):
    folds, _ = make_folds(manifest)
    lines = folds.to_csv(index=False).splitlines()
    (tmp_path / "folds.csv").write_text("".join(f"{line}\n" for line in edit(lines)))
    with pytest.raises(DataError) as caught:
        read_folds(tmp_path / "folds.csv", manifest, by="patient")
    assert words in str(caught.value)


def test_missing_file_is_explained(manifest, tmp_path):
    with pytest.raises(DataError, match=r"folds\.csv"):
        read_folds(tmp_path / "folds.csv", manifest, by="patient")


def test_patient_on_both_sides_is_named(manifest, tmp_path):
    folds, _ = make_folds(manifest)
    rows = np.flatnonzero(manifest["patient"] == "s/P05")
    folds.loc[rows[0], "fold"] = (folds.loc[rows[0], "fold"] + 1) % 3
    with pytest.raises(DataError, match="s/P05"):
        check_folds(folds, manifest, "patient")
    check_folds(folds, manifest, "image")
    write_folds(tmp_path / "folds.csv", folds)
    with pytest.raises(DataError, match="s/P05"):
        read_folds(tmp_path / "folds.csv", manifest, by="patient")


def test_image_content_on_both_sides_is_named(manifest):
    folds, _ = make_folds(manifest)
    one, two = (folds.index[folds["fold"] == k][0] for k in (0, 1))
    manifest.loc[two, "sha256"] = manifest.loc[one, "sha256"]
    for by in ("patient", "image"):
        with pytest.raises(DataError, match=manifest.loc[one, "image_id"]):
            check_folds(folds, manifest, by)


def test_original_on_both_sides_is_named(manifest):
    folds, _ = make_folds(manifest)
    one, two = (folds.index[folds["fold"] == k][0] for k in (0, 1))
    manifest["original_image_id"] = manifest["image_id"]
    manifest.loc[two, "original_image_id"] = manifest.loc[one, "image_id"]
    for by in ("patient", "image"):
        with pytest.raises(DataError, match=f"Original image .*{manifest.loc[one, 'image_id']}"):
            check_folds(folds, manifest, by)


def test_external_row_of_a_held_out_patient_is_a_leak(manifest):
    manifest.loc[manifest.index[manifest["patient"] == "s/P07"][0], "evaluate"] = False
    folds, _ = make_folds(manifest)
    with pytest.raises(DataError, match="s/P07"):
        check_folds(folds, manifest, "patient")


def test_external_row_with_a_fold_is_an_error(manifest):
    folds, _ = make_folds(manifest)
    manifest.loc[5, "evaluate"] = False
    with pytest.raises(DataError, match=r"s/0005\.png"):
        check_folds(folds, manifest, "image")


# External images held out, too, as the paper has it.


@pytest.mark.slow
@settings(max_examples=100)
@given(manifests(), st.integers(2, 5), st.sampled_from(["patient", "image"]), st.integers(0, 3))
def test_external_images_are_divided_too_on_request(manifest, num_folds, by, seed):
    manifest["evaluate"] = np.random.default_rng(seed).random(len(manifest)) < 0.7  # a patient may be of both kinds
    in_folds = manifest[manifest["label"].notna() & (manifest["split"] != "test")]
    try:
        folds, _ = make_folds(manifest, num_folds=num_folds, by=by, seed=seed, hold_out_external=True)
    except DataError as error:
        scored = in_folds[in_folds["evaluate"]]
        groups = scored["patient"].fillna(scored["image_id"]) if by == "patient" else scored["image_id"]
        assert groups.nunique() < num_folds, error
        return
    assert set(folds["image_id"]) == set(in_folds["image_id"])
    assert folds["fold"].notna().all()
    table = folds.merge(manifest, on="image_id", validate="one_to_one")
    assert set(table.loc[table["evaluate"], "fold"]) == set(range(num_folds))
    if by == "patient":
        assert (table.groupby("patient")["fold"].nunique() <= 1).all()
    check_folds(folds, manifest, by, hold_out_external=True)


def test_held_out_external_images_are_stratified(manifest):
    external = manifest.assign(image_id="e/" + manifest["image_id"], source="e", evaluate=False, patient=None)
    external["sha256"] = "e" + external["sha256"]
    both = pd.concat([manifest, external], ignore_index=True)
    folds, _ = make_folds(both, by="image", hold_out_external=True)
    table = folds.merge(both, on="image_id")
    counts = pd.crosstab(table["label"], table["fold"])
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1


def test_without_external_images_nothing_changes_in_the_folds(manifest):
    for by in ("patient", "image"):
        one, other = (make_folds(manifest, by=by, hold_out_external=held)[0] for held in (False, True))
        pd.testing.assert_frame_equal(one, other)


def test_file_with_external_folds_is_read_only_where_they_are_to_be_held_out(manifest, tmp_path):
    manifest.loc[manifest["patient"] == "s/P03", "evaluate"] = False
    folds, _ = make_folds(manifest, hold_out_external=True)
    write_folds(tmp_path / "folds.csv", folds)
    with pytest.raises(DataError, match="hold_out_external"):
        read_folds(tmp_path / "folds.csv", manifest)
    read = read_folds(tmp_path / "folds.csv", manifest, hold_out_external=True)
    pd.testing.assert_frame_equal(read, folds, check_dtype=False)


def test_external_images_leak_like_others_where_they_are_held_out(manifest):
    manifest.loc[manifest["patient"] == "s/P03", "evaluate"] = False
    folds, _ = make_folds(manifest, hold_out_external=True)
    row = np.flatnonzero(manifest["patient"] == "s/P03")[0]
    folds.loc[row, "fold"] = (folds.loc[row, "fold"] + 1) % 3
    with pytest.raises(DataError, match="s/P03"):
        check_folds(folds, manifest, "patient", hold_out_external=True)
    folds.loc[row, "fold"] = pd.NA  # in every training set, and its patient held out in one
    with pytest.raises(DataError, match="s/P03"):
        check_folds(folds, manifest, "patient", hold_out_external=True)


def test_fold_of_external_images_alone_is_an_error(manifest):
    folds, _ = make_folds(manifest, by="image")
    manifest["evaluate"] = (folds["fold"] != 2).to_numpy()
    with pytest.raises(DataError, match=r"[Ff]old 2\b"):
        check_folds(folds, manifest, "image", hold_out_external=True)
