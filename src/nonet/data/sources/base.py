"""The description of a data set: one `Source` each, in the mapping SOURCES."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nonet.data.sources.class_folders import require_folder, require_rows
from nonet.data.sources.listing import LabelMap, LeftOut, Listing
from nonet.errors import DataError

#: Labels of cells without one of nonet's codes, by which `classes` can request them.
EXTRA_LABELS = {
    "ART": "artefact",
    "ERB": "erythroblast",
    "GT": "giant platelet",
    "IG": "immature granulocyte, not divided into promyelocyte, myelocyte and metamyelocyte",
    "NEU": "neutrophil, not divided into band and segmented",
    "PLT": "platelet",
    "PMO": "promonocyte",
    "SMU": "smudge cell",
}
#: Labels of many data sets for which there is none of the thirteen codes.
NEUTROPHIL = LeftOut("a neutrophil, not divided into band and segmented", "NEU")
ERYTHROBLAST = LeftOut("an erythroblast is not one of the thirteen classes", "ERB")
PLATELET = LeftOut("a platelet is not a white blood cell", "PLT")
GIANT_PLATELET = LeftOut("a platelet is not a white blood cell", "GT")
SMUDGE_CELL = LeftOut("a smudge cell cannot be classified", "SMU")


@dataclass(frozen=True)
class Download:
    """One file to fetch, or the repository of a data set on the Hugging Face hub.

    Attributes
    ----------
    address : str
        https://…, or hf://datasets/OWNER/NAME.
    evidence : str
        Where the address and the checksum come from, in words.
    file : str
        Name of the downloaded file; a .zip is unpacked. Empty for the hub.
    checksum : str or None
        "md5:…" or "sha256:…" as published; None where no published checksum is known.
    verified : bool
        Whether address and checksum are both the publishers' own. Only then is a download called verified.
    variant : str
        Name of one of several downloads to choose from; the first is the default.
    gated : bool
        Whether the hub asks for permission and a token.
    """

    address: str
    evidence: str
    file: str = ""
    checksum: str | None = None
    verified: bool = False
    variant: str = ""
    gated: bool = False

    @property
    def hub_name(self) -> str | None:
        """OWNER/NAME on the hub, or None for a plain address."""
        prefix = "hf://datasets/"
        return self.address.removeprefix(prefix) if self.address.startswith(prefix) else None


@dataclass(frozen=True)
class Source:
    """A kind of source: how it is read and, if it is published, everything that is known about it.

    Attributes
    ----------
    name : str
        Its key in SOURCES, and the images' source unless the user gives another name.
    title : str
        What it is, in one line.
    reader : callable
        Function of (path, name, **options) that returns a Listing. The path is that of a folder that can be listed,
        unless `takes_file`; the name is that of the images' source, by default that of this entry, or None if
        `named_by_path`.
    layout : str
        The folder that `reader` expects.
    published, licence, citation : str
        Where it is, what may be done with it, what to cite. Empty for the user's own data.
    published_unverified : bool
        Whether the address in `published` has not been confirmed.
    labels : LabelMap
        Upstream label → code, or why it has none.
    parts : mapping
        Part → images of the complete part, for data sets whose parts can be used by themselves.
    num_images : int or None
        Images of the complete data set, if known.
    patients : str
        "known", "stand-ins", "unknown", or "as given".
    tissue : str
        "blood" or "marrow".
    paper : frozenset of str or None
        Codes whose images the paper uses, empty for none; None for all.
    paper_words : str
        The same in words, with counts.
    notes : tuple of str
        Caveats, shown with the source and with each dataset built from it.
    downloads : tuple of Download
        What `fetch` can download.
    by_hand : str
        What to download by hand, and where to put it.
    options : tuple of str
        Keyword arguments of `build_dataset` that `reader` accepts.
    takes_file : bool
        Whether the path may be that of a file.
    named_by_path : bool
        Whether `reader` derives the name of the images' source from the path.
    """

    name: str
    title: str
    reader: Callable[..., Listing]
    layout: str
    published: str = ""
    published_unverified: bool = False
    licence: str = ""
    citation: str = ""
    labels: LabelMap = field(default_factory=LabelMap)
    parts: Mapping[str, int] = field(default_factory=dict)
    num_images: int | None = None
    patients: str = "unknown"
    tissue: str = "blood"
    paper: frozenset[str] | None = frozenset()
    paper_words: str = "nothing"
    notes: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    by_hand: str = ""
    options: tuple[str, ...] = ()
    takes_file: bool = False
    named_by_path: bool = False

    def read(self, path: Path, name: str | None = None, **options: object) -> Listing:
        """List the images of a folder or file in this layout.

        Parameters
        ----------
        path : Path
        name : str, optional
            Of the images' source.
        **options
            See `options`.

        Returns
        -------
        Listing

        Raises
        ------
        DataError
            When it cannot be read, or has another layout.
        """
        if not self.takes_file:
            require_folder(path, self.name)
        listing = self.reader(path, name if self.named_by_path else name or self.name, **options)
        listing.kind = self.name
        if self.published:  # the user's own data may be listed as left out
            require_rows(listing, path, self.name)
        return listing

    @property
    def counts(self) -> Mapping[str, int]:
        """Upstream label → images of the complete data set, if known, to recognise an incomplete folder."""
        return self.labels.counts

    @property
    def fetchable(self) -> str:
        """Whether `fetch` can download it, in words."""
        if not self.downloads:
            return "by hand" if self.published else "your own"
        if any(download.gated for download in self.downloads):
            return "gated: needs a token"
        return "yes, verified" if all(download.verified for download in self.downloads) else "yes, not verified"

    def download(self, variant: str | None = None) -> Download:
        """Return one of the downloads.

        Parameters
        ----------
        variant : str, optional
            By default the first one.

        Returns
        -------
        Download

        Raises
        ------
        DataError
            When there is none; the hint says what to do by hand.
        """
        if not self.downloads:
            raise DataError(
                f"{self.name} cannot be fetched by nonet.", hint=self.by_hand or "It stands for your own data."
            )
        if variant is None:
            return self.downloads[0]
        matching = [download for download in self.downloads if download.variant == variant]
        if not matching:
            names = ", ".join(download.variant for download in self.downloads if download.variant)
            raise DataError(
                f'{self.name} has no variant "{variant}".',
                hint=f"Variants: {names}." if names else "It has only one: leave `variant` out.",
            )
        return matching[0]
