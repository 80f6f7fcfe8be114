"""What a user writes in an afternoon: timm, Pillow and NumPy, and the files that a run publishes; nothing of nonet.

    python benchmarks/users_loop.py RUN IMAGES ... --out FOLDER [--device cuda] [--check FOLDER]

Predicts files, folders or the column `path` of a CSV table: clean images, as nothing is denoised, with every member of
a run and its eight flips and quarter turns, one member and one view after another, eagerly, in single precision, in
batches of 32. Writes predictions.csv (image, best class, its probability) and logits.npz, and says how long it took
from start to end.

It is the measure for `nonet predict`, in speed and in numbers: --check compares its logits and classes with those of
a folder that `nonet predict` wrote for the same images.
"""

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import tomllib  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

BATCH_SIZE = 32
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
HALF, IMAGENET = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: Architecture → timm's name, mean and standard deviation of pixels, own size in px, further arguments.
ARCHITECTURES = {
    "efficientnet_lite0": ("tf_efficientnet_lite0", HALF, 224, {}),
    "efficientnet_lite1": ("tf_efficientnet_lite1", HALF, 240, {}),
    "efficientnet_lite2": ("tf_efficientnet_lite2", HALF, 260, {}),
    "swinv2_tiny": ("swinv2_tiny_window8_256", IMAGENET, 256, {"img_size": 256}),
    "convnextv2_tiny": ("convnextv2_tiny", IMAGENET, 224, {}),
    "dinobloom_small": ("vit_small_patch14_dinov2", IMAGENET, 224, {"img_size": 224}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--check", type=Path, help="folder of `nonet predict`, for the same images")
    arguments = parser.parse_args()
    files = sorted(file for given in arguments.images for file in list_images(given))
    ensemble = json.loads((arguments.run / "ensemble.json").read_text())
    models = tomllib.loads((arguments.run / "recipe.toml").read_text())["models"]
    logits = calibrated(predict(arguments.run, files, ensemble, models, arguments.device), ensemble)
    write(arguments.out, files, logits, ensemble["classes"])
    print(f"{len(files)} images in {time.perf_counter() - STARTED:.1f} s, imports included")
    if arguments.check:
        print(compared(logits, files, arguments.check))


def list_images(given: Path) -> list[Path]:
    if given.suffix == ".csv":
        return [given.parent / path for path in pd.read_csv(given)["path"]]
    return [file for file in given.rglob("*") if file.suffix.lower() in SUFFIXES] if given.is_dir() else [given]


@torch.inference_mode()
def predict(run: Path, files: list[Path], ensemble: dict, models: dict, device: str) -> np.ndarray:
    """Return the weighted mean of logits over members and views: float64 (n, classes)."""
    members = sorted((member for member in ensemble["members"] if member["weight"]), key=lambda m: m["architecture"])
    total = torch.zeros(len(files), len(ensemble["classes"]), dtype=torch.float64)
    for architecture, folds in itertools.groupby(members, key=lambda member: member["architecture"]):
        images = torch.stack([load_image(file, architecture, models) for file in files])
        for member in folds:
            network = load_member(run, member, models, len(ensemble["classes"])).to(device)
            for start in range(0, len(files), BATCH_SIZE):
                batch = images[start : start + BATCH_SIZE].to(device)
                views = [torch.rot90(batch, turns, (2, 3)) for turns in range(4)]
                views += [view.flip(3) for view in views]
                mean = sum(network(view).cpu().double() for view in views) / len(views)
                total[start : start + BATCH_SIZE] += member["weight"] * mean
    return (total / sum(member["weight"] for member in members)).numpy()


def load_member(run: Path, member: dict, models: dict, num_classes: int) -> nn.Module:
    """Build a member's network and load its weights, named backbone.… and head.… in the file."""
    name, _, own_size, options = ARCHITECTURES[member["architecture"]]
    if "img_size" in options:
        options = options | {"img_size": models.get("image_size_px") or own_size}
    backbone = timm.create_model(name, num_classes=0, **options)
    layers, width = [], backbone.head_hidden_size
    for wide in () if models["refit_head"] else models["head_widths"]:
        layers += [nn.Linear(width, wide), nn.ReLU(), nn.Dropout(models["head_dropout"])]
        width = wide
    network = nn.Sequential()
    network.add_module("backbone", backbone)
    network.add_module("head", nn.Sequential(*layers, nn.Linear(width, num_classes)))
    file = run / "members" / member["architecture"] / f"fold-{member['fold']}" / "weights.safetensors"
    network.load_state_dict(load_file(file))
    return network.eval()


def load_image(file: Path, architecture: str, models: dict) -> torch.Tensor:
    """Return the central square of an image, resized and normalised: float32 (3, size, size)."""
    _, (mean, std), own_size, _ = ARCHITECTURES[architecture]
    size, centre = models.get("image_size_px") or own_size, models["centre"]
    centre = centre.get(architecture, 1.0) if isinstance(centre, dict) else centre
    image = Image.open(file).convert("RGB")
    if centre < 1:
        side = round(centre * min(image.size))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    normalised = (pixels - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(normalised.transpose(2, 0, 1))


def calibrated(logits: np.ndarray, ensemble: dict) -> np.ndarray:
    """Divide by the temperature of each image and add the prior correction, as ensemble.json says."""
    bias = ensemble["calibration"].get("bias") or {}
    slope = ensemble["calibration"].get("entropy_slope", 0.0)
    proba = np.exp(logits - logits.max(1, keepdims=True))
    proba /= proba.sum(1, keepdims=True)
    entropy = -(proba * np.log(np.maximum(proba, 1e-300))).sum(1, keepdims=True) / np.log(logits.shape[1])
    temperature = ensemble["temperature"] * np.exp(-slope * entropy)
    return logits / temperature + np.array([bias.get(code, 0.0) for code in ensemble["classes"]])


def write(out: Path, files: list[Path], logits: np.ndarray, classes: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    proba = np.exp(logits - logits.max(1, keepdims=True))
    proba /= proba.sum(1, keepdims=True)
    best = [classes[k] for k in logits.argmax(1)]
    table = pd.DataFrame({"image": [str(file) for file in files], "best": best, "probability": proba.max(1)})
    table.to_csv(out / "predictions.csv", index=False)
    np.savez(out / "logits.npz", logits=logits, images=[str(file) for file in files])


def compared(logits: np.ndarray, files: list[Path], folder: Path) -> str:
    """Say how far the logits are from those of `nonet predict`, and how many classes are the same."""
    theirs = pd.read_parquet(folder / "logits.parquet")
    theirs.index = [Path(image).name for image in theirs["image"]]  # it may name them from another folder
    theirs = theirs.loc[[file.name for file in files]].filter(regex="^logit_").to_numpy(dtype=np.float64)
    same = (theirs.argmax(1) == logits.argmax(1)).mean()
    return f"largest difference of logits {np.nanmax(np.abs(theirs - logits)):.2g}, the same best class in {same:.2%}"


if __name__ == "__main__":
    main()
