"""BloodMNIST of MedMNIST v2: Acevedo-20 at 28 to 224 px, one npz."""

from pathlib import Path

from nonet.artifacts.system_files import is_leftover
from nonet.data.sources.base import ERYTHROBLAST, NEUTROPHIL, PLATELET, Download, Source
from nonet.data.sources.listing import LabelMap, LeftOut, Listing
from nonet.data.sources.packed import PackedImages, npz_arrays, npz_shape, read_arrays
from nonet.errors import DataError

#: In the order of its numeric labels.
LABELS = LabelMap(
    {
        "basophil": "BA",
        "eosinophil": "EO",
        "erythroblast": ERYTHROBLAST,
        "immature granulocytes": LeftOut("not divided into PMY, MY and MMY", "IG"),
        "lymphocyte": "LY",
        "monocyte": "MO",
        "neutrophil": NEUTROPHIL,
        "platelet": PLATELET,
    }
)
NAMES = tuple(LABELS)
SPLITS = ("train", "val", "test")


def _read(path: Path, source: str) -> Listing:
    """List the images of the npz, or of the one in a folder; the test part gets the split "test"."""
    file = _file(path)
    listing, places = Listing(file.parent), {}
    labels = npz_arrays(file, [f"{split}_labels" for split in SPLITS])
    for split in SPLITS:
        numbers = labels[f"{split}_labels"].ravel()
        shape, _ = npz_shape(file, f"{split}_images")
        if shape[0] != len(numbers):
            raise DataError(f"{file}: {split} has {shape[0]} images and {len(numbers)} labels.")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(NAMES):
            raise DataError(f"{file}: {split} has a label that is not 0 to 7.", hint="Is it BloodMNIST's?")
        for index, number in enumerate(numbers.tolist()):
            inside = f"{split}/{index:05d}.png"
            places[inside] = (file, f"{split}_images", index)
            listing.add_upstream(LABELS, NAMES[number], path=inside, source=source, split=split)
    listing.packed = PackedImages(places, read_arrays)
    return listing


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = [p for p in sorted(path.glob("bloodmnist*.npz")) if not is_leftover(p.name)] if path.is_dir() else []
    if len(files) != 1:
        why = f"has {', '.join(p.name for p in files)}" if files else "has no bloodmnist*.npz"
        raise DataError(
            f"{path} {why if path.is_dir() else 'does not exist'}.",
            hint="Give the path of one npz." if files else "Get it with: nonet data fetch bloodmnist --out FOLDER",
        )
    return files[0]


def _download(size_px: int, md5: str) -> Download:
    file = "bloodmnist.npz" if size_px == 28 else f"bloodmnist_{size_px}.npz"
    return Download(
        f"https://zenodo.org/records/10519652/files/{file}?download=1",
        file=file,
        checksum=f"md5:{md5}",
        verified=True,
        variant=str(size_px),
        evidence="Address and MD5 are published in MedMNIST's own package (medmnist/info.py).",
    )


BLOODMNIST = Source(
    name="bloodmnist",
    title="BloodMNIST (MedMNIST v2): Acevedo-20 cropped and downsized, eight broad classes",
    reader=_read,
    takes_file=True,
    published="Zenodo, https://doi.org/10.5281/zenodo.10519652",
    licence="CC BY 4.0",
    citation="Yang J, Shi R, Wei D, et al. MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical "
    "image classification. Scientific Data 10 (2023) 41. With: Acevedo A et al., Data in Brief 30 (2020) 105474.",
    layout="DIR/bloodmnist[_64|_128|_224].npz with {train,val,test}_images and _labels, or the npz itself",
    labels=LABELS,
    num_images=17092,
    notes=(
        "For a first try on real cells with one download. Only four of its classes have one of nonet's codes; for all "
        "eight: `classes=BA,EO,ERB,IG,LY,MO,NEU,PLT`",
        "Made from Acevedo-20 and split by image, not by patient; identical files of Acevedo-20 may be on both sides. "
        "Use one of the two, and do not trust a score on its test part.",
    ),
    downloads=(
        _download(64, "2b94928a2ae4916078ca51e05b6b800b"),
        _download(28, "7053d0359d879ad8a5505303e11de1dc"),
        _download(128, "adace1e0ed228fccda1f39692059dd4c"),
        _download(224, "b718ff6835fcbdb22ba9eacccd7b2601"),
    ),
    by_hand="Download bloodmnist_64.npz from https://zenodo.org/records/10519652; "
    "then: nonet data build bloodmnist:FOLDER",
)
