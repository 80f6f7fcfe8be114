"""The data of a benchmark: one hospital, scored by patient, and others that are only trained on."""

import argparse
from pathlib import Path

import nonet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the data and a working folder."""
    parser.add_argument(
        "data",
        nargs="+",
        help="sources as for `nonet data build`, such as csv:ours.csv acevedo:PBC; a plain file is read as a CSV table "
        "(path,label,patient and, if it holds several sources, source)",
    )
    parser.add_argument("--evaluated", required=True, help="source that is scored")
    parser.add_argument("--external", nargs="*", default=[], help="sources that are only trained on")
    parser.add_argument("--work", type=Path, required=True, help="folder for the dataset and the runs")


def build(arguments: argparse.Namespace) -> nonet.Dataset:
    """Build the dataset in the working folder; exit if a source is neither evaluated nor external."""
    sources = [data if ":" in data else f"csv:{data}" for data in arguments.data]
    dataset = nonet.build_dataset(sources, arguments.work / "dataset", classes=["13"], external=arguments.external)
    scored = set(dataset.manifest.loc[dataset.manifest["evaluate"], "source"])
    if scored != {arguments.evaluated}:
        raise SystemExit(
            f"The scored sources would be {', '.join(sorted(scored)) or 'none'} instead of only {arguments.evaluated}. "
            "List the sources that are only trained on after --external."
        )
    return dataset
