"""The kinds of sources that `build_dataset` reads; a new kind is one file and one entry here."""

from nonet.data.sources.csv_table import read_csv
from nonet.data.sources.folder import read_folder
from nonet.data.sources.wbcbench import read_wbcbench

#: kind → function (path, name or None) → Listing
SOURCES = {"folder": read_folder, "csv": read_csv, "wbcbench": read_wbcbench}
