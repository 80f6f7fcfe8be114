"""A run whose dataset is drawn cells with planted label errors, which its issues.csv lists; it has no networks."""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers.reviews import HEADERS, make_site
from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.integrity import write_sealed
from nonet.artifacts.run import Run
from nonet.data.build import build_dataset
from nonet.data.manifest import Dataset
from nonet.synthetic.dataset import draw_dataset

COUNTS = {"BNE": 12, "EO": 12, "LY": 12, "MO": 12, "SNE": 12}


class DoubtedRun(NamedTuple):
    """The run, its dataset, the source that it was built from, and image_id → true label of what is listed."""

    run: Run
    dataset: Dataset
    source: str
    truth: dict[str, str]


def make_doubted_run(folder: Path, *, counts=COUNTS, rate: float = 0.2, seed: int = 3, size_px: int = 32) -> DoubtedRun:
    """Draw cells, some with a wrong label, and write a run whose issues are these."""
    draw_dataset(
        folder / "cells", num_images=dict(counts), num_patients=4, size_px=size_px, seed=seed, label_error_rate=rate
    )
    source = f"drawn=csv:{folder / 'cells' / 'images.csv'}"
    dataset = build_dataset([source], folder / "dataset")
    run = Run(folder / "run")
    run.folder.mkdir()
    run.recipe.write_text('name = "drawn"\n')
    dataset.manifest.to_parquet(run.manifest)
    begun = {
        "architectures": ["vit_mini"],
        "num_folds": 1,
        "dataset": str(dataset.folder.resolve()),
        "classes": dataset.classes,
    }
    write_sealed(run.provenance, begun | {"fingerprints": {}})
    members = [{"architecture": "vit_mini", "fold": 0, "weight": 1.0}]
    ensemble = {"format_version": 1, "classes": dataset.classes, "titles": {"vit_mini": "ViT"}, "members": members}
    run.ensemble.write_text(json.dumps(ensemble | {"trained_priors": dict.fromkeys(dataset.classes, 0.2)}))
    planted = pd.read_csv(folder / "cells" / "truth.csv").query("true_label != given_label")
    truth = {f"drawn/{path}": label for path, label in zip(planted["path"], planted["true_label"])}
    write_issues(run, dataset.manifest, truth)
    return DoubtedRun(run, dataset, source, truth)


def write_issues(run: Run, manifest: pd.DataFrame, suggested: dict[str, str], **columns) -> pd.DataFrame:
    """Write issues.csv of image_id → suggested class, as `nonet issues` does."""
    rows = manifest.set_index("image_id").loc[[*suggested]]
    sound = manifest[~manifest["image_id"].isin([*suggested])]
    table = pd.DataFrame(
        {
            "rank": range(1, len(rows) + 1),
            "image_id": rows.index,
            **{name: rows[name].to_numpy() for name in ("path", "source", "patient")},
            "given": rows["label"].to_numpy(),
            "suggested": [*suggested.values()],
            "self_confidence": 0.05,
            "suggested_confidence": 0.9,
            "normalized_margin": 0.07,
            **dict.fromkeys(("decision", "label", "note"), ""),
        }
    )
    for which in ("given", "suggested"):
        for place in range(3):
            near = [sound.loc[sound["label"] == label, "image_id"].tolist() for label in table[which]]
            table[f"{which}_neighbour_{place + 1}"] = [one[place] if place < len(one) else None for one in near]
    table = table.assign(**columns)
    run.issues.parent.mkdir(parents=True, exist_ok=True)
    write_csv(run.issues, table)
    return table


class IssuePage(NamedTuple):
    """A client of the page of a run with issues."""

    client: object

    def list(self, **query):
        return self.client.get("/api/issues", params=query).json()

    def decide(self, issue, decision, label="", **more):
        body = {"decision": decision, "label": label, "version": issue["version"]} | more
        path = f"/api/issues/{issue['image_id']}/decision"
        return self.client.post(path, json=body, headers=HEADERS)

    def undo(self):
        return self.client.post("/api/issues/undo", headers=HEADERS)


def open_issue_page(run: Run, reviewer: str = "Ada", role: str = "admin") -> IssuePage:
    """Return a client of the page of a run, as a person of a role."""
    from fastapi.testclient import TestClient

    from nonet.review.app import make_app

    app = make_app(make_site(run, user=reviewer, role=role))
    return IssuePage(TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False))
