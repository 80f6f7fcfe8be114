"""The data of a benchmark: one hospital's, scored by patient, and others' to train on."""

import argparse
from pathlib import Path

import nonet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Ask for the data and a folder to work in."""
    parser.add_argument(
        "data",
        nargs="+",
        help="sources as `nonet data build` takes them, as in csv:ours.csv acevedo:PBC; a file alone is a csv "
        "(path,label,patient and, where it holds several sources, source)",
    )
    parser.add_argument("--evaluated", required=True, help="name of the source that is scored")
    parser.add_argument("--external", nargs="*", default=[], help="names of sources that are trained on only")
    parser.add_argument("--work", type=Path, required=True, help="folder for the dataset and the runs")


def build(arguments: argparse.Namespace) -> nonet.Dataset:
    """Build the dataset in the folder for work; what is neither evaluated nor external ends the program."""
    sources = [data if ":" in data else f"csv:{data}" for data in arguments.data]
    dataset = nonet.build_dataset(sources, arguments.work / "dataset", classes=["13"], external=arguments.external)
    scored = set(dataset.manifest.loc[dataset.manifest["evaluate"], "source"])
    if scored != {arguments.evaluated}:
        raise SystemExit(
            f"Scored would be {', '.join(sorted(scored)) or 'nothing'}, not {arguments.evaluated} alone. "
            "Name the sources that are only trained on after --external."
        )
    return dataset
