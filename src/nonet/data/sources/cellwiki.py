"""Prolymphocytes of CellWiki: a page of pictures, saved by hand."""

from pathlib import Path

from nonet.data.sources.base import Source
from nonet.data.sources.class_folders import list_images, require_folder, require_rows
from nonet.data.sources.listing import LabelMap, Listing

LABELS = LabelMap({"PLY": "PLY"})


def read_cellwiki(path: Path, name: str | None = None) -> Listing:
    """List every image of a folder, at any depth, as a prolymphocyte.

    Parameters
    ----------
    path : the folder of saved pictures, one cell each.
    name : of the source; by default cellwiki.

    Raises
    ------
    DataError where it is no folder or has no image.
    """
    require_folder(path, "cellwiki")
    listing, source = Listing(path), name or "cellwiki"
    for file in list_images(listing, source):
        listing.add_upstream(LABELS, "PLY", path=str(file), source=source)
    return require_rows(listing, path, "cellwiki")


CELLWIKI = Source(
    name="cellwiki",
    title="CellWiki: pictures of prolymphocytes, saved by hand",
    read=read_cellwiki,
    published="CellWiki, https://www.cellwiki.net, its page on prolymphocytes",
    published_unverified=True,
    licence="see the page; ask before you pass pictures on",
    citation="CellWiki, the page on prolymphocytes, with the day you saved it.",
    layout="DIR/*.jpg, *.png …: every image in it is taken for a prolymphocyte (PLY)",
    labels=LABELS,
    num_images=18,
    paper=frozenset({"PLY"}),
    paper_words="18 prolymphocytes.",
    notes=(
        "18 images of few patients, who are not told: good for training at best, never for scoring. Name it after "
        "`external`.",
        "Pictures of a page differ from an analyser's crops in size, sharpness and background, and so give the class "
        "away.",
    ),
    by_hand="There is no file to download. Open CellWiki's page on prolymphocytes, save each picture of a single cell "
    "into a folder that holds nothing else (cut out the cell where a picture shows several), and write down the day; "
    "then: nonet data build cellwiki:FOLDER --external cellwiki, beside your other sources.",
)
