"""From what a user names as sources to the listings of their images. No image is read."""

import re
from collections.abc import Iterable
from pathlib import Path

from nonet.data.sources import SOURCES
from nonet.data.sources.base import Source
from nonet.data.sources.listing import Listing
from nonet.data.sources.paths import absolute_path
from nonet.data.sources.walk import walk
from nonet.errors import DataError, did_you_mean


def read_sources(specs: list[str], options: dict | None = None) -> dict[str, Listing]:
    """List the images of sources.

    Parameters
    ----------
    specs : list of str
        Each KIND:PATH or NAME=KIND:PATH; SOURCES has the kinds.
    options : dict, optional
        For the kinds that accept them, see `Source.options`; None and empty values are ignored.

    Returns
    -------
    dict
        Spec → Listing.

    Raises
    ------
    DataError
        When a spec cannot be parsed, a source does not exist or is given twice, or no source accepts an option.
    """
    if not specs:
        raise DataError("No source is given.", hint="Give one like folder:PATH, csv:TABLE.csv or wbcbench:PATH.")
    given = {name: value for name, value in (options or {}).items() if value}
    parsed = [(spec, *_parse(spec)) for spec in specs]
    kinds = {kind for _, _, kind, _ in parsed}
    for option in given:
        accepting = [kind for kind, source in SOURCES.items() if option in source.options]
        if not kinds & set(accepting):
            raise DataError(f"No source accepts --{option}.", hint=f"It is for {' and '.join(accepting)}: sources.")
    listings: dict[str, Listing] = {}
    for spec, name, kind, path in parsed:
        if spec in listings:
            raise DataError(f'Source "{spec}" is given twice.')
        accepted = {option: value for option, value in given.items() if option in SOURCES[kind].options}
        listing = SOURCES[kind].read(absolute_path(path), name, **accepted)
        source_name = name or kind
        if listing.packed:
            _list_unreadable_folders(listing, source_name)
        notes = (*count_notes(SOURCES[kind], listing), *SOURCES[kind].notes)
        listing.notes += [f"{source_name}: {note}" for note in notes]
        listings[spec] = listing
    return listings


def count_notes(source: Source, listing: Listing) -> list[str]:
    """Report parts and labels whose counts differ from those of the complete data set, if these are known.

    A missing part is not reported; labels are only compared where all parts with labels are present.

    Parameters
    ----------
    source : Source
    listing : Listing

    Returns
    -------
    list of str
        At most one sentence.
    """
    counts = [(part, listing.parts[part], count) for part, count in source.parts.items() if part in listing.parts]
    if listing.upstream:
        counts += [(label, listing.upstream[label], count) for label, count in source.counts.items()]
    differ = [f"{name} {actual:,} of {count:,}" for name, actual, count in counts if actual != count]
    if not differ:
        return []
    return [f"not the complete data set, which has other counts: {', '.join(differ)}."]


def require_sources(sources: Iterable[str], names: list[str], option: str) -> None:
    """Raise DataError if an option names a source that is none of these."""
    available = sorted(sources)
    unknown = sorted(set(names) - set(available))
    if unknown:
        raise DataError(
            f'`{option}` names an unknown source: "{unknown[0]}".',
            hint=f"{did_you_mean(unknown[0], available)}Sources: {', '.join(available) or 'none with images'}.",
        )


def _parse(spec: str) -> tuple[str | None, str, str]:
    """Return name or None, kind and path of NAME=KIND:PATH."""
    match = re.fullmatch(r"(?:([^=:/\\]+)=)?([A-Za-z][A-Za-z0-9_-]*):(.+)", spec, re.DOTALL)
    if match is None:
        raise DataError(f'"{spec}" is not a source.', hint=f"Write KIND:PATH or NAME=KIND:PATH{_suggested(spec)}.")
    name, kind, path = match.groups()
    if kind not in SOURCES:
        hint = f"{did_you_mean(kind, SOURCES)}Kinds: {', '.join(SOURCES)}."
        raise DataError(f'"{spec}": unknown kind "{kind}".', hint=hint)
    return name, kind, path


def _suggested(spec: str) -> str:
    path = absolute_path(spec)
    if path.is_dir():
        return f", here perhaps folder:{spec}"
    return f", here perhaps csv:{spec}" if path.is_file() else ", like folder:cells"


def _list_unreadable_folders(listing: Listing, source: str) -> None:
    """Record folders that cannot be listed: sources of tables and fields search files by extension only."""
    for entry in walk(listing.root):
        if entry.problem is not None and entry.problem.startswith("unreadable"):
            listing.exclude(entry.path, source, None, entry.problem)


def collect_roots(listings: dict[str, Listing]) -> dict[str, Path]:
    """Return the folder of each source.

    Parameters
    ----------
    listings : dict
        Spec → Listing.

    Returns
    -------
    dict
        Source → Path that its paths are relative to.

    Raises
    ------
    DataError
        When two sources have the same name, which would mix their images, or a name has a slash.
    """
    roots: dict[str, Path] = {}
    for spec, listing in listings.items():
        for source in {row["source"] for row in listing.rows} | {row["source"] for row in listing.excluded}:
            if "/" in source or "\\" in source:
                raise DataError(f'"{spec}": a source cannot be named "{source}".', hint="Use a name without slashes.")
            if roots.setdefault(source, listing.root) != listing.root:
                raise DataError(
                    f'Two sources are named "{source}": {roots[source]} and {listing.root}.',
                    hint="Name one of them: NAME=KIND:PATH.",
                )
    return roots
