"""nonet: white blood cell classification with nine small networks.

The public API on one screen. A name is loaded when it is first used, so `import nonet` is quick and pulls in no torch.
Editors and type checkers read `__init__.pyi`.
"""

import importlib

__version__ = "0.1.0"

#: Public name → its module.
HOMES = {
    "build_dataset": "nonet.data.build",
    "check_dataset": "nonet.data.verify",
    "Dataset": "nonet.data.manifest",
    "list_sources": "nonet.data.sources.catalogue",
    "describe_source": "nonet.data.sources.catalogue",
    "fetch_source": "nonet.data.sources.fetch",
    "draw_dataset": "nonet.synthetic.dataset",
    "Recipe": "nonet.recipe",
    "load_recipe": "nonet.recipe",
    "list_recipes": "nonet.recipe",
    "list_backbones": "nonet.models.listing",
    "train": "nonet.training.launch",
    "Run": "nonet.artifacts.run",
    "calibrate": "nonet.calibration.calibrate",
    "evaluate": "nonet.report.evaluate",
    "evaluate_robustness": "nonet.robustness",
    "table": "nonet.evaluation.across_runs",
    "issues": "nonet.report.issues",
    "find_label_issues": "nonet.evaluation.label_issues",
    "load": "nonet.inference.load",
    "Ensemble": "nonet.inference.ensemble",
    "predict": "nonet.inference.predict",
    "shard_images": "nonet.inference.sharding",
    "predict_shards": "nonet.inference.predict_shards",
    "predict_shard": "nonet.inference.predict_shard",
    "count": "nonet.differential.count",
    "compare": "nonet.differential.compare",
    "serve": "nonet.review.serve",
    "backup": "nonet.review.backup",
    "add_user": "nonet.review.users",
    "list_users": "nonet.review.users",
    "remove_user": "nonet.review.users",
    "set_password": "nonet.review.users",
    "set_role": "nonet.review.users",
    "make_token": "nonet.review.users",
    "revoke_token": "nonet.review.users",
    "score": "nonet.evaluation.score",
    "demo": "nonet.demonstration",
    "doctor": "nonet.diagnostics",
    "NonetError": "nonet.errors",
}

__all__ = [*HOMES, "__version__"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module 'nonet' has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
