"""The layout of oof.parquet: columns of logits, and values by architecture and image."""

import numpy as np
import pandas as pd

from nonet.artifacts.oof import first_rows, logit_classes, logit_columns, read_oof, values_by_architecture


def table():
    rows = [("b", "first", 1.0, 2.0), ("a", "second", 5.0, 6.0), ("b", "second", 7.0, 8.0)]
    return pd.DataFrame(rows, columns=["image_id", "architecture", *logit_columns(["LY", "MO"])])


def test_columns_of_logits_name_the_classes_in_order():
    assert logit_columns(["LY", "MO"]) == ["logit_LY", "logit_MO"]
    assert logit_classes(table()) == ["LY", "MO"]


def test_values_are_arranged_by_architecture_and_image_with_nan_for_a_dead_member():
    images = first_rows(table())["image_id"].to_numpy()
    values = values_by_architecture(table(), logit_columns(["MO", "LY"]), ["second", "first"], images)
    assert images.tolist() == ["a", "b"]
    np.testing.assert_array_equal(values, [[[6, 5], [8, 7]], [[np.nan, np.nan], [2, 1]]])


def test_image_ids_that_are_numbers_are_read_as_text(tmp_path):
    table().assign(image_id=[2, 1, 2]).to_parquet(tmp_path / "oof.parquet")
    assert read_oof(tmp_path / "oof.parquet")["image_id"].tolist() == ["2", "1", "2"]


def test_values_of_no_image_have_their_shape():
    assert values_by_architecture(table().iloc[:0], logit_columns(["MO", "LY"]), [], np.array([])).shape == (0, 0, 2)
