"""Pictures of the worst label issues, and of the cells that look most like them, for the report."""

from nonet.data.images.decode import load_rgb
from nonet.data.run_images import RunImages
from nonet.errors import DataError
from nonet.evaluation.neighbours import NUM_NEIGHBOURS
from nonet.page.pictures import embedded

_SIDE_PX, _SMALL_PX = 128, 96


def add_pictures(rows: list[dict], images: RunImages) -> bool:
    """Add pictures to rows of issues: `picture`, and lists `given_pictures` and `suggested_pictures`.

    Each is the address of an embedded picture, or "" for an image that cannot be read.

    Parameters
    ----------
    rows : list of dict
        Of the table of issues; changed in place.
    images : RunImages

    Returns
    -------
    bool
        Whether any image of an issue could be read; if not, there is nothing to show.
    """
    read: dict[str, str] = {}
    for row in rows:
        row["picture"] = _picture(row["image_id"], images, _SIDE_PX)
        for which in ("given", "suggested"):
            names = [row[f"{which}_neighbour_{place + 1}"] for place in range(NUM_NEIGHBOURS)]
            row[f"{which}_pictures"] = [_once(read, name, images) for name in names if name is not None]
    return any(row["picture"] for row in rows)


def _once(read: dict[str, str], image_id: str, images: RunImages) -> str:
    """Return the small picture of an image, which may be near several issues."""
    if image_id not in read:
        read[image_id] = _picture(image_id, images, _SMALL_PX)
    return read[image_id]


def _picture(image_id: str, images: RunImages, side_px: int) -> str:
    path = images.find(image_id)
    try:
        return "" if path is None else embedded(load_rgb(path), side_px)
    except DataError:
        return ""
