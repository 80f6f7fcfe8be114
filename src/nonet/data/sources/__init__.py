"""The kinds of sources that `build_dataset` reads; a new kind is one file and one entry here."""

from nonet.data.sources.acevedo import ACEVEDO
from nonet.data.sources.base import Source
from nonet.data.sources.bccd import BCCD
from nonet.data.sources.blood8 import BLOOD8
from nonet.data.sources.bloodmnist import BLOODMNIST
from nonet.data.sources.cellwiki import CELLWIKI
from nonet.data.sources.chula import CHULA
from nonet.data.sources.csv_table import CSV
from nonet.data.sources.cytologia import CYTOLOGIA
from nonet.data.sources.deepapl import DEEPAPL
from nonet.data.sources.folder import FOLDER
from nonet.data.sources.lmu_aml import LMU_AML
from nonet.data.sources.mll23 import MLL23
from nonet.data.sources.mll_bm import MLL_BM
from nonet.data.sources.raabin import RAABIN
from nonet.data.sources.wbcbench import WBCBENCH
from nonet.data.sources.wbcbench_hf import WBCBENCH_HF

#: Name → what is known about a source, how to get it, and how it is read.
SOURCES: dict[str, Source] = {
    "folder": FOLDER,
    "csv": CSV,
    "wbcbench": WBCBENCH,
    "wbcbench-hf": WBCBENCH_HF,
    "acevedo": ACEVEDO,
    "blood8": BLOOD8,
    "cellwiki": CELLWIKI,
    "cytologia": CYTOLOGIA,
    "deepapl": DEEPAPL,
    "lmu-aml": LMU_AML,
    "mll23": MLL23,
    "mll-bm": MLL_BM,
    "chula": CHULA,
    "raabin": RAABIN,
    "bccd": BCCD,
    "bloodmnist": BLOODMNIST,
}
