"""A CSV file with path and label and, if known, patient, source and split."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.data.images.formats import IMAGE_SUFFIXES
from nonet.data.sources.base import Source
from nonet.data.sources.columns import EVALUATE, USED, choose_columns
from nonet.data.sources.listing import Listing
from nonet.data.sources.paths import FileFinder, absolute_path, path_within, valid_unicode
from nonet.data.sources.splits import TEST, VAL, read_split
from nonet.data.sources.tables import read_table
from nonet.data.sources.vocabulary import is_missing_value
from nonet.errors import DataError, counted

if TYPE_CHECKING:
    import pandas as pd


def _read(
    path: Path, name: str | None, *, columns: Mapping[str, str] | None = None, root: str | Path | None = None
) -> Listing:
    """List the images of a CSV file.

    Paths are relative to `root`, by default the table's folder, and must not leave it. `columns` maps nonet's names to
    the table's where it has other ones. Without a name, the source is that of the column, else the file's name.
    """
    table = read_table(path)
    root = path.parent if root is None else absolute_path(root)
    if not root.is_dir():
        raise DataError(
            f"{root} is not a directory.", hint="`root` is the folder that a table's paths are relative to."
        )
    table, notes = choose_columns(path, table, columns or {})
    listing = Listing(root, notes=notes)
    table = table.reindex(columns=list(USED), fill_value="")
    for column in ("path", "source", "sha256"):
        table[column] = table[column].mask(table[column].map(is_missing_value), "")
    table["source"] = name or table["source"].where(table["source"] != "", path.stem)
    table["evaluate"] = _parse_evaluate(path, table["evaluate"])
    words = table["split"]
    splits = [read_split(word, f"{path}, line {line}") for line, word in words.items()]
    import pandas as pd  # a table that is missing or damaged is refused before

    table["split"] = pd.Series(splits, index=table.index, dtype=object)
    listing.notes += _split_notes(path, words, table["split"])
    _list_rows(listing, path, table)
    return listing


def _list_rows(listing: Listing, path: Path, table: "pd.DataFrame") -> None:
    finder, respelt = FileFinder(listing.root, IMAGE_SUFFIXES), []
    for line, row in zip(table.index, table.to_dict("records")):
        where = f"line {line} of {path.name}"
        if not row["path"]:
            listing.exclude("", row["source"], row["label"], f"no path: {where}")
            continue
        on_disk, how = finder.find(row["path"])
        if on_disk is None and how:
            listing.exclude(row["path"], row["source"], row["label"], f"missing: {where} has {row['path']}, {how}")
            continue
        within, problem = path_within(listing.root, on_disk or row["path"])
        if within is None:
            problem = problem or "bad path"
            reason = f"outside: {where} leaves {listing.root}" if problem.startswith("outside") else problem
            # With NUL characters, excluded.csv could not be read again.
            without_nul = row["path"].replace("\0", "\N{REPLACEMENT CHARACTER}")
            listing.exclude(without_nul, row["source"], row["label"], reason)
            continue
        if valid_unicode(within) != within:
            reason = f"bad name: {where}: the file's name is not UTF-8; rename it"
            listing.exclude(valid_unicode(within), row["source"], row["label"], reason)
            continue
        if how:
            respelt.append((how, row["path"], within))
        known = {str(key): value for key, value in row.items() if value != "" and key not in ("path", "source")}
        if "sha256" in known:
            known["sha256"] = known["sha256"].lower()
        listing.add(path=within, source=row["source"], **known)
    listing.notes += _spelling_notes(path, respelt)


def _spelling_notes(path: Path, respelt: list[tuple[str, str, str]]) -> Iterator[str]:
    """Describe how many paths were found under another spelling, and how they differ."""
    for how, count in Counter(how for how, _, _ in respelt).items():
        _, written, within = next(one for one in respelt if one[0] == how)
        paths = counted(count, "path was", "paths were")
        first = "" if count == 1 else "first "
        yield f"{path.name}: {paths} found under another spelling ({how}), {first}{written} as {within}."


def _split_notes(path: Path, words: "pd.Series", splits: "pd.Series") -> Iterator[str]:
    """Describe how splits were read, where that is not obvious, and how each is used."""
    counts, num_without = splits.value_counts(), int(splits.isna().sum())
    if counts.empty:
        return
    others = {word: split for word, split in zip(words, splits) if split is not None and word != split}
    if others:
        read = ", ".join(f"{word} as {split}" for word, split in others.items())
        yield f"{path.name}: splits read: {read}."
    if VAL in counts:
        yield (
            f"{path.name}: images of split val ({counts[VAL]:,}) are trained on and scored out of fold like those of "
            "train, as nonet makes its own folds. If they are a test set, write test."
        )
    if num_without and TEST in counts:
        images = counted(num_without, "image has", "images have")
        yield f"{path.name}: {images} no split: trained on and scored like those of train."


def _parse_evaluate(path: Path, values: "pd.Series") -> "pd.Series":
    """Parse the column evaluate, whether an image takes part in the scores; True where it is empty."""
    words = values.str.casefold().mask(values.map(is_missing_value), "")
    wrong = values[~words.isin(EVALUATE)]
    if len(wrong):
        raise DataError(
            f'{path}, line {wrong.index[0]}: evaluate is "{wrong.iloc[0]}".', hint="Give true, false or nothing (true)."
        )
    return words.map(EVALUATE).astype(bool)


CSV = Source(
    name="csv",
    title="your own table: path and label and, if known, patient, source and split",
    reader=_read,
    takes_file=True,
    named_by_path=True,
    layout="TABLE.csv with the columns path,label and, if known, patient,source,split,evaluate,sha256; paths are "
    "relative to its folder, or to `root`. Other column names: `columns=path=filename,label=cell_type`. A split is "
    "train, val or test: test is never trained on, val is trained on and scored out of fold like train.",
    patients="as given",
    paper=None,
    paper_words="all that you give",
    options=("columns", "root"),
)
