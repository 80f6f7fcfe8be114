"""Prolymphocytes of CellWiki: a page of pictures, saved by hand."""

from pathlib import Path

from nonet.data.sources.base import Source
from nonet.data.sources.class_folders import list_images
from nonet.data.sources.listing import LabelMap, Listing

LABELS = LabelMap({"PLY": "PLY"})


def _read(path: Path, source: str) -> Listing:
    """List every image of a folder, at any depth, as a prolymphocyte."""
    listing = Listing(path)
    for file in list_images(listing, source):
        listing.add_upstream(LABELS, "PLY", path=str(file), source=source)
    return listing


CELLWIKI = Source(
    name="cellwiki",
    title="CellWiki: pictures of prolymphocytes, saved by hand",
    reader=_read,
    published="CellWiki, https://www.cellwiki.net, its page on prolymphocytes",
    published_unverified=True,
    licence="see the page; ask before you pass pictures on",
    citation="CellWiki, the page on prolymphocytes, with the date on which you saved it.",
    layout="DIR/*.jpg, *.png …: every image in it counts as a prolymphocyte (PLY)",
    labels=LABELS,
    num_images=18,
    paper=frozenset({"PLY"}),
    paper_words="18 prolymphocytes.",
    notes=(
        "18 images of a few unnamed patients: useful for training at best, never for scoring. Name it after "
        "`external`.",
        "Pictures from a web page differ from an analyser's crops in size, sharpness and background, which gives the "
        "class away.",
    ),
    by_hand="No archive is published. Open CellWiki's page on prolymphocytes, save each picture of a single cell "
    "into a folder that contains nothing else (crop to the cell where a picture shows several), and note the date; "
    "then: nonet data build cellwiki:FOLDER --external cellwiki, beside your other sources.",
)
