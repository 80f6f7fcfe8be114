"""`list_sources` and `describe_source`: what nonet knows of the data sets that it reads."""

import textwrap

import pandas as pd

from nonet.cells import name_of
from nonet.data.sources import SOURCES
from nonet.data.sources.base import Source
from nonet.data.sources.fetch import find_source
from nonet.data.sources.listing import LeftOut

WIDTH = 110  # columns of text


def list_sources() -> pd.DataFrame:
    """Return one row a kind of source: name, what it is, licence, images, patients, whether it can be fetched."""
    return pd.DataFrame(
        [
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
    )


def describe_source(name: str) -> str:
    """Return everything that is known of a source, in words: where it is, its layout, its labels, what to beware of.

    Raises
    ------
    DataError on a name that is none.
    """
    source = find_source(name)
    lines = [f"{source.name}: {source.title}", ""]
    for heading, text in facts_of(source):
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
            lines += [f"    checksum: {download.checksum or 'none known'}", f"    {verified_words(download)}"]
            lines += textwrap.wrap(download.evidence, WIDTH, initial_indent="    ", subsequent_indent="    ")
        lines += [""]
    if source.by_hand:
        lines += ["By hand:", *_wrapped(source.by_hand), ""]
    return "\n".join(lines).rstrip()


def facts_of(source: Source) -> list[tuple[str, str]]:
    """Return (heading, text) of what is known of a source, without labels, notes and downloads."""
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
        ("The paper takes", source.paper_words),
    ]
    return [(heading, text) for heading, text in facts if text]


def label_table(source: Source) -> list[tuple[str, str, str]]:
    """Return (upstream label, code or "", in words) of each label; the words say why there is no code, where so."""
    rows = []
    for upstream, meaning in source.labels.items():
        if isinstance(meaning, LeftOut):
            asked = f"; `classes={meaning.label}` keeps it" if meaning.label else ""
            rows.append((upstream, "", f"left out: {meaning.reason}{asked}"))
        else:
            rows.append((upstream, meaning, name_of(meaning)))
    return rows


def verified_words(download) -> str:
    """Say whether a download is checked against its publishers' checksum."""
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
