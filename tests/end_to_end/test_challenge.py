"""The challenge from its folder to submission.csv, on drawn cells laid out as its organisers lay out theirs."""

import csv
import shutil

import pandas as pd
import pytest

import nonet

pytestmark = pytest.mark.end_to_end


def lay_out(drawn, folder):
    """Move drawn cells into the challenge's folders and tables: CRLF, empty trailing columns, no patients."""
    table = pd.read_csv(drawn / "images.csv").sort_values(["patient", "path"], ignore_index=True)
    parts = {"phase1": "phase1_label.csv", "phase2/train": "phase2_train.csv", "phase2/eval": "phase2_eval.csv"}
    parts |= {"phase2/test": "phase2_test.csv"}
    names = list(parts)
    part_of = [names[min(i * 4 // len(table), 3)] for i in range(len(table))]
    for part, name in parts.items():
        (folder / part).mkdir(parents=True)
        lines = ["ID,labels" if part == "phase2/test" else "ID,labels,split" + ",,," * (part == "phase1")]
        for i, row in enumerate(table.itertuples()):
            if part_of[i] == part:
                shutil.copyfile(drawn / row.path, folder / part / f"{i:05d}.jpg")
                rest = "" if part == "phase2/test" else f"{row.label},train" + ",,," * (part == "phase1")
                lines.append(f"{i:05d}.jpg,{rest}")
        (folder / name).write_bytes("\r\n".join([*lines, ""]).encode())
    return folder


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("challenge")
    drawn = nonet.draw_dataset(folder / "drawn", num_images=120, num_patients=8, size_px=48, seed=5)
    return lay_out(drawn, folder / "wbc-bench")


def ids_of(path):
    with path.open(newline="") as file:
        return [row["ID"] for row in csv.DictReader(file)]


def test_from_the_challenges_folder_to_a_submission(challenge, study, nonet_command, tmp_path):
    status, out, err = nonet_command("data", "build", f"wbcbench:{challenge}", "--out", tmp_path / "dataset")
    assert status == 0, err
    dataset = nonet.Dataset.open(tmp_path / "dataset")
    sample = challenge / "phase2_test.csv"
    in_test = dataset.manifest["split"] == "test"
    assert in_test.sum() == len(ids_of(sample)) == 30
    assert dataset.manifest.loc[in_test, "label"].isna().all()
    assert "30 unlabelled" in out

    words = ["predict", study.run, tmp_path / "dataset", "--split", "test", "--format", "wbcbench"]
    words += ["--sample-submission", sample, "--out", tmp_path / "out", "--views", "none"]
    status, out, err = nonet_command(*words)
    assert status == 0, err
    with (tmp_path / "out" / "submission.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ID", "labels"]
    assert [row[0] for row in rows[1:]] == ids_of(sample)
    predicted = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    best_of = {name.split("/")[-1]: best for name, best in zip(predicted["image"], predicted["best"], strict=True)}
    assert dict(rows[1:]) == best_of  # the challenge wants a class of every image, doubtful ones too


def test_a_truncated_test_image_prevents_a_submission_unless_it_is_given_a_class(challenge, study, tmp_path):
    copied = shutil.copytree(challenge, tmp_path / "wbc-bench")
    cut = sorted((copied / "phase2" / "test").iterdir())[7]
    cut.write_bytes(cut.read_bytes()[:400])
    options = {"out": tmp_path / "out", "format": "wbcbench", "sample_submission": copied / "phase2_test.csv"}
    ensemble = nonet.load(study.run, accelerator="cpu")
    with pytest.raises(nonet.NonetError, match=rf"\b1 .*{cut.name}") as caught:
        nonet.predict(ensemble, copied / "phase2" / "test", views=1, **options)
    assert "unreadable_label" in caught.value.hint
    assert not (tmp_path / "out" / "submission.csv").exists()
    nonet.predict(ensemble, copied / "phase2" / "test", views=1, unreadable_label="SNE", **options)
    submitted = pd.read_csv(tmp_path / "out" / "submission.csv", dtype=str).set_index("ID")["labels"]
    assert submitted[cut.name] == "SNE"
    assert list(submitted.index) == ids_of(copied / "phase2_test.csv")


def test_a_test_image_left_out_of_the_dataset_is_named(challenge, study, tmp_path):
    """The build leaves a truncated image out, so the dataset cannot answer for its ID; the folder can."""
    copied = shutil.copytree(challenge, tmp_path / "wbc-bench")
    cut = sorted((copied / "phase2" / "test").iterdir())[7]
    cut.write_bytes(cut.read_bytes()[:400])
    dataset = nonet.build_dataset(f"wbcbench:{copied}", tmp_path / "dataset")
    with pytest.raises(nonet.NonetError, match=f"1 of 30 .*{cut.name}") as caught:
        nonet.predict(
            study.run,
            dataset.folder,
            split="test",
            out=tmp_path / "out",
            format="wbcbench",
            sample_submission=copied / "phase2_test.csv",
        )
    assert "folder" in caught.value.hint
