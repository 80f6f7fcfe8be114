"""nonet: white blood cell classification with nine small networks.

The public API on one screen. Names are loaded when first used, so `import nonet` is quick and pulls in no torch.
"""

import importlib
import sys
from types import ModuleType

__version__ = "0.1.0"

_HOME = {
    "build_dataset": "nonet.data.build",
    "list_sources": "nonet.data.catalogue",
    "describe_source": "nonet.data.catalogue",
    "fetch_source": "nonet.data.fetch",
    "check_dataset": "nonet.data.check",
    "Dataset": "nonet.data.manifest",
    "draw_dataset": "nonet.data.phantom",
    "Recipe": "nonet.recipe",
    "load_recipe": "nonet.recipe",
    "list_recipes": "nonet.recipe",
    "list_backbones": "nonet.models.listing",
    "train": "nonet.train.launch",
    "Run": "nonet.runs",
    "calibrate": "nonet.train.finish",
    "evaluate": "nonet.evaluate.run",
    "evaluate_robustness": "nonet.robustness",
    "table": "nonet.evaluate.across_runs",
    "issues": "nonet.evaluate.issues",
    "find_label_issues": "nonet.evaluate.label_issues",
    "load": "nonet.predict.opening",
    "Ensemble": "nonet.predict.ensemble",
    "predict": "nonet.predict.run",
    "score": "nonet.evaluate.score",
    "demo": "nonet.demo",
    "doctor": "nonet.doctor",
    "NonetError": "nonet.errors",
}

__all__ = [*_HOME, "__version__"]


def __dir__() -> list[str]:
    return __all__


def _lazy(name: str, home: str) -> property:
    def get(module: ModuleType):
        return getattr(importlib.import_module(home), name)

    # Importing nonet.train.launch sets nonet.train to the subpackage; the verb of the same name stays what users get.
    return property(get, lambda module, value: None)


class _Nonet(ModuleType):
    """This module, with the public names as properties: unlike __getattr__, they win over subpackages so named."""


for _name, _home in _HOME.items():
    setattr(_Nonet, _name, _lazy(_name, _home))
sys.modules[__name__].__class__ = _Nonet
