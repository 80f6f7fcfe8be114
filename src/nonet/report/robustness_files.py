"""The files of a test of robustness."""

from nonet.artifacts.csv_files import write_csv
from nonet.artifacts.run import Run, write_text
from nonet.evaluation.robustness import Robustness
from nonet.page.figures import svg_text, with_page_style
from nonet.report.figures import robustness_figure


def write_robustness(run: Run, result: Robustness) -> None:
    """Write the figure and the tables; the scores come last, as a sign that all files are there."""
    figure = with_page_style(robustness_figure, result.scores)
    write_text(run.evaluation / "figures" / "robustness.svg", svg_text(figure, "robustness"))
    write_csv(run.robustness_differences, result.differences)
    write_csv(run.robustness, result.scores)
