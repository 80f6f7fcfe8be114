"""`list_sources` and `describe_source`: what is known about the data sets that nonet reads."""

import textwrap
from typing import TYPE_CHECKING

from nonet.cells import class_name
from nonet.data.sources import SOURCES
from nonet.data.sources.base import Download, Source
from nonet.data.sources.fetch import find_source
from nonet.data.sources.listing import LeftOut

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 110  # columns of text


def list_sources() -> "pd.DataFrame":
    """List the kinds of sources.

    Returns
    -------
    DataFrame
        One row per kind: name, what it is, licence, images, patients, whether it can be fetched.
    """
    import pandas as pd

    return pd.DataFrame(source_rows())


def source_rows() -> list[dict[str, str]]:
    """Return the rows of `list_sources`, without pandas."""
    return [
        {
            "name": source.name,
            "what": source.title,
            "licence": source.licence.split(",")[0].split(";")[0] or "yours",
            "images": f"{source.num_images:,}" if source.num_images else "",
            "patients": source.patients.split(";")[0],
            "fetch": source.fetchable,
        }
        for source in SOURCES.values()
    ]


def describe_source(name: str) -> str:
    """Describe everything that is known about a source: where it is, its layout, its labels, its caveats.

    Parameters
    ----------
    name : str
        Key of SOURCES.

    Returns
    -------
    str
        Several lines of text.

    Raises
    ------
    DataError
        When there is no source of that name.
    """
    source = find_source(name)
    lines = [f"{source.name}: {source.title}", ""]
    for heading, text in source_facts(source):
        lines += [f"{heading}:", *_wrapped(text), ""]
    if source.labels:
        lines += ["Labels:", *_label_lines(source), ""]
    if source.notes:
        lines += ["Beware:"]
        for note in source.notes:
            lines += textwrap.wrap(note, WIDTH, initial_indent="  - ", subsequent_indent="    ")
        lines += [""]
    if source.downloads:
        lines += ["Fetch:"]
        for download in source.downloads:
            variant = f" --variant {download.variant}" if download.variant else ""
            lines += [f"  nonet data fetch {source.name} --out FOLDER{variant}", f"    {download.address}"]
            lines += [f"    checksum: {download.checksum or 'none known'}", f"    {verification_note(download)}"]
            lines += textwrap.wrap(download.evidence, WIDTH, initial_indent="    ", subsequent_indent="    ")
        lines += [""]
    if source.by_hand:
        lines += ["By hand:", *_wrapped(source.by_hand), ""]
    return "\n".join(lines).rstrip()


def source_facts(source: Source) -> list[tuple[str, str]]:
    """Return what is known about a source, without labels, notes and downloads.

    Parameters
    ----------
    source : Source

    Returns
    -------
    list of tuple of str
        (heading, text).
    """
    published = source.published and (
        f"{source.published}{' (UNVERIFIED: not confirmed)' if source.published_unverified else ''}"
    )
    images = f"{source.num_images:,}" if source.num_images else ""
    tissue = "bone marrow, NOT BLOOD" if source.tissue == "marrow" else ""
    facts = [
        ("Published", published),
        ("Licence", source.licence),
        ("Cite", source.citation),
        ("Images", images),
        ("Patients", source.patients),
        ("Tissue", tissue),
        ("Layout", source.layout),
        ("Used by the paper", source.paper_words),
    ]
    return [(heading, text) for heading, text in facts if text]


def label_table(source: Source) -> list[tuple[str, str, str]]:
    """Return how each upstream label is read.

    Parameters
    ----------
    source : Source

    Returns
    -------
    list of tuple of str
        (upstream label, code or "", description); the description says why there is no code.
    """
    rows = []
    for upstream, meaning in source.labels.items():
        if isinstance(meaning, LeftOut):
            option = f"; `classes={meaning.label}` includes it" if meaning.label else ""
            rows.append((upstream, "", f"left out: {meaning.reason}{option}"))
        else:
            rows.append((upstream, meaning, class_name(meaning)))
    return rows


def verification_note(download: Download) -> str:
    """Tell whether a download is compared with a published checksum.

    Parameters
    ----------
    download : Download

    Returns
    -------
    str
    """
    return "verified: address and checksum are the publishers'" if download.verified else "UNVERIFIED"


def _label_lines(source: Source) -> list[str]:
    rows = label_table(source)
    width = max(len(upstream) for upstream, _, _ in rows)
    return [
        f"  {upstream:{width}}  {code or '-':4} {words}"
        + (f"  ({source.counts[upstream]:,})" if upstream in source.counts else "")
        for upstream, code, words in rows
    ]


def _wrapped(text: str) -> list[str]:
    return [
        line
        for part in text.split("\n")
        for line in textwrap.wrap(part, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    ]
