"""Published data sets that are folders of images, in tiny copies of their layouts."""

import re

import pytest

from helpers.layouts import draw, draw_acevedo, labels, left_out, packed, unknown_types, write_parquet
from nonet.data.build import build_dataset
from nonet.data.gather import read_sources
from nonet.data.selection import limit_to_paper, select_from_listings
from nonet.data.sources import SOURCES
from nonet.data.sources.acevedo import FOLDERS, LABELS
from nonet.data.verify import check_dataset
from nonet.errors import DataError

pytestmark = pytest.mark.usefixtures("without_figures")

PAPER = {"MO": 1420, "EO": 3117, "BNE": 1633, "PMY": 592, "BA": 1218, "MY": 1137, "MMY": 1015}

# Acevedo-20


@pytest.fixture
def acevedo(tmp_path):
    return draw_acevedo(tmp_path / "PBC_dataset_normal_DIB")


def test_acevedo_maps_by_prefix_and_lists_the_rest(acevedo, tmp_path):
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out")
    assert labels(dataset) == dict.fromkeys(("BA", "EO", "LY", "MO", "SNE", "BNE", "MMY", "MY", "PMY"), 2)
    no_code = {f"no code for {p}": 2 for p in ("NEUTROPHIL", "IG")}
    assert left_out(dataset) == no_code | {"left by a system or program": 1}
    assert set(dataset.manifest["source"]) == {"acevedo"}
    assert dataset.manifest["patient"].isna().all()
    assert unknown_types(dataset) == {"ERB": 2, "PLT": 2}
    assert len(dataset.manifest) + len(dataset.excluded) == 27
    text = " ".join(dataset.notes)
    assert "EO 2 of 3,117" in text
    assert "366 x 369" in text  # a shortcut


def test_acevedo_is_found_below_the_folder_given(acevedo, tmp_path):
    above = build_dataset(f"acevedo:{acevedo.parent}", tmp_path / "a")
    assert above.fingerprint() == build_dataset(f"acevedo:{acevedo}", tmp_path / "b").fingerprint()


def test_acevedo_limited_to_what_the_paper_takes(acevedo, tmp_path):
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out", paper="acevedo")
    assert labels(dataset) == dict.fromkeys(PAPER, 2)
    assert left_out(dataset)["not used by the paper"] == 4  # LY, SNE
    assert left_out(dataset)["no code for IG"] == 2


@pytest.mark.slow
def test_complete_acevedo_gives_exactly_the_papers_counts(tmp_path):
    """All 17,092 names, none with content: listing reads no image."""
    for folder, prefixes in FOLDERS.items():
        (tmp_path / folder).mkdir()
        for prefix in prefixes:
            for number in range(LABELS.counts[prefix]):
                (tmp_path / folder / f"{prefix}_{number}.jpg").touch()
    (listing,) = read_sources([f"acevedo:{tmp_path}"]).values()
    selection = select_from_listings([listing])
    limit_to_paper(selection, [listing], ["acevedo"])
    rows = selection.rows[selection.rows["opt_in_reason"].isna()]
    assert rows["label"].value_counts().to_dict() == PAPER
    assert len(rows) == 10132 and "10,132 of 12,992 images" in selection.notes[-1]
    assert len(listing.rows) == 17092 and not listing.excluded
    assert not any("complete" in note for note in listing.notes)


def test_acevedos_copies_are_listed_as_such(acevedo, tmp_path):
    one = (acevedo / "monocyte/MO_1.jpg").read_bytes()
    (acevedo / "monocyte/MO_7.jpg").write_bytes(one)
    two = (acevedo / "ig/MY_1.jpg").read_bytes()
    (acevedo / "ig/PMY_7.jpg").write_bytes(two)
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out", paper=["acevedo"])
    assert left_out(dataset)["duplicate image"] == 1
    assert left_out(dataset)["conflicting labels"] == 2
    assert labels(dataset) == dict.fromkeys(PAPER, 2) | {"MY": 1}


def test_a_copy_under_a_label_that_is_left_out_contests_the_one_that_is_kept(acevedo, tmp_path):
    (acevedo / "neutrophil/NEUTROPHIL_7.jpg").write_bytes((acevedo / "neutrophil/BNE_1.jpg").read_bytes())
    (acevedo / "lymphocyte/LY_7.jpg").write_bytes((acevedo / "monocyte/MO_1.jpg").read_bytes())
    (acevedo / "ig/IG_7.jpg").write_bytes((acevedo / "ig/IG_1.jpg").read_bytes())
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out", paper="acevedo")
    assert labels(dataset) == dict.fromkeys(PAPER, 2) | {"BNE": 1, "MO": 1}
    contested = dataset.excluded[dataset.excluded["reason"].str.startswith("conflicting")].set_index("path")["reason"]
    assert "BNE and, left out, NEU: acevedo/neutrophil/NEUTROPHIL_7.jpg" in contested["neutrophil/BNE_1.jpg"]
    assert "LY: acevedo/lymphocyte/LY_7.jpg" in contested["monocyte/MO_1.jpg"]
    assert len(dataset.manifest) + len(dataset.excluded) == 30


def test_acevedo_where_folder_and_name_disagree(acevedo, tmp_path):
    draw(acevedo / "basophil/EO_9.jpg")
    draw(acevedo / "basophil/XY_9.jpg")
    draw(acevedo / "basophil/.BA_9.jpg")
    (acevedo / "basophil/notes.txt").write_text("x")
    kinds = left_out(build_dataset(f"acevedo:{acevedo}", tmp_path / "out"))
    assert kinds["folder and name disagree"] == kinds["unknown label XY"] == 1
    assert kinds["hidden"] == kinds["not an image"] == 1


def test_undivided_classes_are_kept_on_request(acevedo, tmp_path):
    dataset = build_dataset(f"acevedo:{acevedo}", tmp_path / "out", classes=["13", "NEU", "IG"])
    assert {"NEU", "IG"} < set(dataset.classes)
    assert set(left_out(dataset)) == {"left by a system or program"}
    assert unknown_types(dataset) == {"ERB": 2, "PLT": 2}


def test_paper_names_a_source_of_which_it_takes_something(acevedo, tmp_path):
    with pytest.raises(DataError, match=r'"acevdo"(.|\n)*acevedo'):
        build_dataset(f"acevedo:{acevedo}", tmp_path / "out", paper="acevdo")
    draw(tmp_path / "lmu/NGS/NGS_1.tiff")
    with pytest.raises(DataError, match="lmu-aml"):
        build_dataset(f"lmu-aml:{tmp_path / 'lmu'}", tmp_path / "out", paper="lmu-aml")


# Folders of codes


def test_lmu_with_alpha(tmp_path):
    root = tmp_path / "AML-Cytomorphology_LMU"
    for code in SOURCES["lmu-aml"].labels:
        draw(root / code / f"{code}_0001.tiff", channels=4)
    (root / "annotations.dat").write_text("x")
    dataset = build_dataset(f"lmu-aml:{tmp_path}", tmp_path / "out")
    assert labels(dataset) == {"BL": 2} | dict.fromkeys(
        ("SNE", "BNE", "LY", "VLY", "MO", "BA", "EO", "MY", "MMY", "PMY"), 1
    )
    assert set(left_out(dataset)) == {"no code for PMB"} and unknown_types(dataset) == {"ERB": 1, "SMU": 1}
    assert set(dataset.manifest["mode"]) == {"RGBA"}


def test_bone_marrow_is_marked_as_such_and_may_lie_in_folders_of_a_thousand(tmp_path):
    for code in SOURCES["mll-bm"].labels:
        draw(tmp_path / "BM_cytomorphology_data" / code / "0001-1000" / f"{code}_00001.jpg")
    draw(tmp_path / "BM_cytomorphology_data/PLM/PLM_00002.jpg")
    dataset = build_dataset(f"mll-bm:{tmp_path / 'BM_cytomorphology_data'}", tmp_path / "out")
    assert labels(dataset)["PC"] == 2 and len(dataset.classes) == 11
    assert sum(left_out(dataset).values()) + sum(unknown_types(dataset).values()) == 10
    assert any("marrow" in note.lower() for note in dataset.notes)


def test_mll23_maps_its_folders_which_may_lie_in_folders_of_their_name(tmp_path):
    for label in SOURCES["mll23"].labels:
        draw(tmp_path / "MLL23" / label / f"{label}_0001.TIF")
    draw(tmp_path / "MLL23/plasma_cell/plasma_cell/plasma_cell_0002.TIF")
    draw(tmp_path / "MLL23/__MACOSX/basophil/basophil_0001.TIF")
    draw(tmp_path / "MLL23/platelet/platelet_0001.TIF")
    for place in (tmp_path, tmp_path / "MLL23"):
        dataset = build_dataset(f"mll23:{place}", tmp_path / "out")
        assert labels(dataset) == {"PC": 2} | dict.fromkeys(
            ("SNE", "BNE", "MMY", "MY", "PMY", "BL", "EO", "BA", "MO", "LY", "VLY"), 1
        )
        assert unknown_types(dataset) == {"ERB": 1, "SMU": 1}
        outside = ("promyelocyte_atypical", "hairy_cell", "lymphocyte_large_granular", "lymphocyte_neoplastic")
        left = left_out(dataset)
        assert {f"no code for {label}" for label in outside} < set(left) and left["unknown label platelet"] == 1
        assert dataset.manifest["patient"].isna().all()


def test_deepapl_has_patients_and_tells_unsigned_slides(tmp_path):
    root = tmp_path / "Data/All"
    draw(root / "Patient_00/Signed slides/Band neutrophils/BNE_1.jpg")
    draw(root / "Patient_00/Signed slides/Lymphocyte, variant/VLY_2.jpg")
    draw(root / "Patient_01/Unsigned slides/Promyelocyte/PMY_3.jpg")
    draw(root / "Patient_01/Unsigned slides/Promyelocyte/PMO_4.jpg")
    draw(root / "Patient_12/Promonocyte/PMO_5.jpg")
    draw(root / "Patient_12/Plasma cells/PC_6.jpg")
    (root / "Patient_12/Plasma cells/Thumbs.db").write_bytes(b"x")
    for place in (tmp_path, root):
        dataset = build_dataset(f"deepapl:{place}", tmp_path / "out")
        manifest = dataset.manifest.set_index("label")
        assert manifest["patient"].to_dict() == {
            "BNE": "deepapl/Patient_00",
            "VLY": "deepapl/Patient_00",
            "PMY": "deepapl/Patient_01",
            "PC": "deepapl/Patient_12",
        }
        assert not manifest["patient_is_standin"].any()
        assert manifest.loc["PMY", "split"] == "unsigned" and manifest.loc["BNE", "split"] == "signed"
        assert manifest.loc["PC", "split"] is None
        assert left_out(dataset) == {"folder and name disagree": 1, "no code for Promonocyte": 1}
        assert any(re.search(r"\b1 image.*unsigned", note) for note in dataset.notes)


def test_cellwiki_is_all_prolymphocytes(tmp_path):
    draw(tmp_path / "saved/one.png")
    draw(tmp_path / "saved/more/two.jpg")
    dataset = build_dataset(f"cellwiki:{tmp_path / 'saved'}", tmp_path / "out", paper="cellwiki")
    assert labels(dataset) == {"PLY": 2}


# Several together


def test_the_papers_additions_in_one_build(acevedo, tmp_path):
    write_parquet(
        tmp_path / "hub/x.parquet",
        {"image": packed(tmp_path, [101, 102]), "label": ["plasma cell", "monocyte"]},
    )
    draw(tmp_path / "saved/ply.png")
    draw(tmp_path / "ours/SNE/1.png")
    added = ["acevedo", "blood8", "cellwiki"]
    dataset = build_dataset(
        [
            f"folder:{tmp_path / 'ours'}",
            f"acevedo:{acevedo}",
            f"blood8:{tmp_path / 'hub'}",
            f"cellwiki:{tmp_path / 'saved'}",
        ],
        tmp_path / "out",
        classes="13",
        external=added,
        paper=added,
    )
    assert labels(dataset) == dict.fromkeys(PAPER, 2) | {"PC": 1, "PLY": 1, "SNE": 1}
    assert dataset.manifest.set_index("source")["evaluate"].groupby(level=0).all().to_dict() == {
        "ours": True,
        **dict.fromkeys(added, False),
    }
    assert check_dataset(tmp_path / "out").ok


def test_a_misspelt_kind_is_answered_with_one_like_it(tmp_path):
    with pytest.raises(DataError, match=r'"acevdo"(.|\n)*"acevedo"'):
        build_dataset(f"acevdo:{tmp_path}", tmp_path / "out")
