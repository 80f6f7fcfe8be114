"""Tables of five small images, as people write them; tests of odd tables and of odd values share them."""

from helpers.layouts import draw

PATHS = ("BA/a.png", "BA/b.png", "EO/a.png", "EO/b.png", "SNE/a.png")


def draw_cells(folder):
    """Draw the images of PATHS, and return the folder."""
    for seed, name in enumerate(PATHS):
        draw(folder / name, seed)
    return folder


def table(cells, header, *rows, name="table.csv"):
    """Write a table beside the images, and return its path."""
    (cells / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8", newline="")
    return cells / name


def with_values(cells, column, *values):
    """Write a table of PATHS whose labels are their folders, and a column of these values."""
    rows = [f"{path},{path.split('/')[0]},{value}" for path, value in zip(PATHS, values, strict=True)]
    return table(cells, f"path,label,{column}", *rows)


def with_labels(cells, *labels):
    """Write a table of PATHS with these labels."""
    return table(cells, "path,label", *(f'{path},"{label}"' for path, label in zip(PATHS, labels)))


def values(listing, column):
    return [row[column] for row in listing.rows]
