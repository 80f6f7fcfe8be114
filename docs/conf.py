"""How Sphinx builds the site: `make docs`. Nothing is fetched, neither here nor by the finished pages."""

import re
import shutil
from pathlib import Path

import nonet

DOCS = Path(__file__).parent
BENCHMARKS = DOCS / "benchmarks"  # copies, not committed: see _copy_benchmarks

project = "nonet"
version = release = nonet.__version__
project_copyright = "the nonet developers"
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
nitpicky = True  # a reference to a public name that does not exist fails the build
nitpick_ignore_regex = [(r"py:.*", r"(?!nonet\.\w+$).*")]  # annotations also name types of others, and inner ones

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence"]
myst_heading_anchors = 4
copybutton_exclude = ".linenos, .gp, .go"

default_role = "code"  # docstrings put names between single backticks
add_module_names = False
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = "nonet"
html_static_path = ["_static"]
html_css_files = ["nonet.css"]
html_copy_source = False
html_show_sourcelink = False
templates_path = ["_templates"]


def _copy_benchmarks() -> None:
    """Bring the committed result pages of benchmarks/ into the site, which holds nothing outside docs/."""
    BENCHMARKS.mkdir(exist_ok=True)
    results = (DOCS.parent / "benchmarks").iterdir()
    pages = {page.name: page for page in results if page.suffix in (".md", ".svg")}
    for stale in set(BENCHMARKS.iterdir()) - {BENCHMARKS / name for name in pages}:
        stale.unlink()
    for name, page in pages.items():
        shutil.copy2(page, BENCHMARKS / name)


def _link_to_copies(app, name: str, text: list[str]) -> None:
    """Pages link to ../benchmarks/x.md, which works where the repository is browsed; here, to the copy."""
    text[0] = re.sub(r"\]\((?:\.\./)+benchmarks/(\w+\.md)", r"](/benchmarks/\1", text[0])


def _without_defaults(app, what: str, name: str, thing, options, signature: str, returned: str):
    """A recipe's signature would be a screen of defaults, which the page of settings has in a table."""
    return ("(**settings)", returned) if hasattr(thing, "model_fields") else None


def setup(app) -> None:
    """Sphinx calls this."""
    _copy_benchmarks()
    app.connect("source-read", _link_to_copies)
    app.connect("autodoc-process-signature", _without_defaults)
