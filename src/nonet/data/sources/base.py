"""What nonet knows of a data set that others publish: one `Source` each, in the mapping SOURCES."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nonet.data.sources.listing import LabelMap, LeftOut, Listing
from nonet.errors import DataError

#: What images without a code of ours are called where the user asks for them by `classes`.
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
#: What many sets have and none of the thirteen codes is for.
NEUTROPHIL = LeftOut("a neutrophil that was not divided into band and segmented", "NEU")
ERYTHROBLAST = LeftOut("an erythroblast is no white blood cell of the thirteen", "ERB")
PLATELET = LeftOut("a platelet is no white blood cell", "PLT")
GIANT_PLATELET = LeftOut("a platelet is no white blood cell", "GT")
SMUDGE_CELL = LeftOut("a smudge cell has lost what would tell its class", "SMU")


@dataclass(frozen=True)
class Download:
    """One file to fetch, or a data set's repository on the Hugging Face hub.

    Attributes
    ----------
    address : https://…, or hf://datasets/OWNER/NAME.
    file : what it is called here; a .zip is unpacked. Empty for the hub.
    evidence : where the address and the checksum were read, in words.
    checksum : "md5:…" or "sha256:…" as its publishers give it, or None where they give none that is known.
    verified : whether address and checksum are both the publishers' own. Only then is a download called verified.
    variant : name of one of several to choose from; the first is the default.
    gated : whether the hub asks for permission and a token.
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
    """A kind of source: how it is read, and, where it is published, everything that is known of it.

    Attributes
    ----------
    name : in SOURCES, and of the images' source unless the user gives another.
    title : what it is, in a line.
    read : function (path, name or None, **options) → Listing.
    layout : the folder that `read` takes.
    published, licence, citation : where it is, what may be done with it, what to cite. Empty for the user's own.
    published_unverified : True where the address in `published` has not been confirmed.
    labels : upstream label → code of ours, or why it has none.
    counts : upstream label → images of the complete data set, where known, to tell a folder that is not complete.
    parts : part → images of the complete part, where a data set has parts that make sense by themselves.
    num_images : of the complete data set, where known.
    patients : "known", "stand-ins", "unknown", or "as given".
    tissue : "blood" or "marrow".
    paper : codes whose images the paper takes, empty for none; None where it takes all.
    paper_words : the same in words, with counts.
    notes : what to beware of; shown with the source and with each dataset built of it.
    downloads : what `fetch` can get.
    by_hand : what to get and where to put it, in words.
    options : keyword arguments that `read` takes beside path and name, of those that `build_dataset` takes.
    """

    name: str
    title: str
    read: Callable[..., Listing]
    layout: str
    published: str = ""
    published_unverified: bool = False
    licence: str = ""
    citation: str = ""
    labels: LabelMap = field(default_factory=LabelMap)
    counts: Mapping[str, int] = field(default_factory=dict)
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

    @property
    def fetchable(self) -> str:
        """Whether `fetch` can get it, in words."""
        if not self.downloads:
            return "by hand" if self.published else "your own"
        if any(download.gated for download in self.downloads):
            return "gated: needs a token"
        return "yes, verified" if all(download.verified for download in self.downloads) else "yes, not verified"

    def download(self, variant: str | None = None) -> Download:
        """Return the download of that variant, by default the first.

        Raises
        ------
        DataError, with what to do by hand, where there is none.
        """
        if not self.downloads:
            raise DataError(f"{self.name} cannot be fetched by nonet.", hint=self.by_hand or "It is a folder of yours.")
        if variant is None:
            return self.downloads[0]
        found = [download for download in self.downloads if download.variant == variant]
        if not found:
            names = ", ".join(download.variant for download in self.downloads if download.variant)
            raise DataError(
                f'{self.name} has no variant "{variant}".',
                hint=f"Variants: {names}." if names else "It has only one: leave `variant` out.",
            )
        return found[0]
