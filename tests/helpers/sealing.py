"""Making a run that a test changed on purpose look as if it had been written so: its checksums are taken again."""

import hashlib
import json
from pathlib import Path

from nonet.artifacts.integrity import file_facts, read_json, write_sealed
from nonet.artifacts.run import Run

#: What training says of a member in DONE, where a test does not care.
DONE = {
    "epochs": 24,
    "kept_epoch": 24,
    "val_macro_f1": 0.5,
    "seconds": 61.0,
    "weights_from": None,
    "attempt": 0,
    "earlier_attempts": [],
    "dead": None,
}


def seal(folder) -> Run:
    """Take the checksums of a run's files anew, of its members' too."""
    run = Run(folder)
    provenance = json.loads(run.provenance.read_text())
    provenance["fingerprints"]["recipe"] = hashlib.sha256(run.recipe.read_bytes()).hexdigest()
    write_sealed(run.provenance, provenance)
    members = {}
    for place in sorted(run.folder.glob("members/*/fold-*")):
        done = json.loads((place / "DONE").read_text()) if (place / "DONE").exists() else {}
        files = [path for path in place.iterdir() if path.suffix in (".safetensors", ".parquet", ".npz", ".jsonl")]
        done = DONE | done
        done |= {
            "member": f"{place.parent.name}/{place.name}",
            "fingerprints": provenance["fingerprints"],
            "files": {path.name: file_facts(path) for path in files},
        }
        write_sealed(place / "DONE", done)
        members[done["member"]] = read_json(place / "DONE", hint="")
    own = (run.manifest, run.folds, run.oof, run.samples, run.dataset_record)
    files = {path.name: file_facts(path) for path in own if path.exists()}
    write_sealed(run.checksums, {"files": files, "members": members})
    return run


def reseal_json(path: Path, **changes) -> None:
    """Change a sealed JSON file, such as provenance.json."""
    write_sealed(path, json.loads(path.read_text()) | changes)
