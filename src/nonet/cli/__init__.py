"""The command line. Each command calls the public function of the same name; this package is the only one that prints.

Commands are imported when they are run, so that `nonet --help` needs neither torch nor pandas.
"""

import logging
import sys

from cyclopts import App, CycloptsError, Group, Parameter

import nonet
from nonet.cli.common import add_common_options
from nonet.cli.ending import leave, run_for_exit_status
from nonet.cli.options import option_name, with_options
from nonet.errors import NonetError, did_you_mean, printable
from nonet.progress import AboveBars

logger = logging.getLogger("nonet")

app = App(
    name="nonet",
    help="White blood cell classification with nine small networks. Research use only.",
    version=nonet.__version__,
    default_parameter=Parameter(name_transform=option_name),
)
data = App(name="data", help="Make and check datasets.")
users = App(name="users", help="Manage who may use the page of a run: names, passwords, roles, API tokens.")

#: Module and function of each command, and its help; that of its options is the docstring of the public function.
COMMANDS = {
    "training:demo": "Run the whole workflow on drawn cells, without a download: draw, train nine networks, evaluate, "
    "predict, report.",
    "training:train": "Train every member of a recipe. If interrupted, run the same command again to resume.",
    "training:calibrate": "Fit calibration, prediction sets and rejection to a run's out-of-fold predictions; training "
    "does so at its end.\n\nRun it again after editing the weights in ensemble.json, or with other settings.",
    "evaluation:evaluate": "Score a run on the images held out from each member, and write tables, figures, a report "
    "and cards.\n\nRUN/evaluation then contains report.html, model_card.md and datasheet.md, and their tables and "
    "figures as CSV and SVG.",
    "evaluation:issues": "Find labels that are probably wrong, worst first, by confident learning on out-of-fold "
    "predictions.\n\nWrites RUN/evaluation/issues.csv, which also names the held-out cells that look most like each; "
    'issues_by_source.csv, issues_by_patient.csv and a figure. "nonet evaluate" does so with these defaults and shows '
    "them in its report.",
    "evaluation:table": "Compare runs: Table 1 on the images that all of them hold out, with paired differences over "
    "patients.",
    "evaluation:score": "Score predictions against a table of labels: macro-F1 and the challenge's other scores, "
    "accuracy, each class.",
    "prediction:predict": 'Predict new images: label or "unidentified", probabilities and prediction set of each, in '
    "predictions.csv; of shards, in a Parquet file each.\n\nExit status 1 if images could not be read now but may be "
    "later, or shards were set aside; the same command then predicts only these.",
    "differential:count": "Count the cells of each case of a prediction: shares with exact intervals, corrected for "
    "known confusions; as CSV, JSON, a page to print and, with --fhir, HL7 FHIR.",
    "differential:compare": "Compare a count with a person's, cell by cell or case by case: kappa, sensitivity and "
    "specificity, Passing and Bablok, Bland and Altman.",
    "review:serve": "Open the page on which a person checks, corrects and signs the differentials of cases; on this "
    "machine only, unless the run has users.\n\nWhat is decided is stored in RUN/review/reviews.sqlite.",
    "review:backup": "Copy all that is in RUN/review into one zip file, even while people review.\n\nTo restore it, "
    "stop the page, move RUN/review away if it is there, and extract the file in RUN.",
    "listing:backbones": "List the networks: parameters with the head, input size, licence of the weights, and whether "
    "they are cached.",
    "listing:recipes": "List the recipes, or show one with every setting.",
    "listing:doctor": "Report what this machine can do and what is missing. Exit status 1 if nonet cannot work here.",
}
DATA_COMMANDS = {
    "data:sources": "List the data sets that nonet reads, or describe one: labels, licence, what to download, where to "
    "put it.",
    "data:fetch": "Download a published data set and verify it. If interrupted, run the same command again to resume.",
    "data:build": "Make a dataset from one or more sources: read every image, write the manifest, summarise it.\n\n"
    "Leaks and shortcuts that would spoil training are reported, with pictures in checks.html, before folds are drawn.",
    "data:check": "Read every image of a dataset again and report missing, changed and unreadable ones. Exit status 1 "
    "if any.\n\nThen run the checks of the build: near duplicates across patients, labels or splits; labels that can "
    "be predicted from size, border or file order; classes too small to score; patients and sources that the "
    "background's colour tells apart. Findings are printed and written to DATASET/checks.html and checks.json.",
    "data:shard": 'Pack images into shards, a few large files, for "nonet predict" on many machines.\n\nIf '
    "interrupted, run the same command again to resume. Exit status 1 if images could not be read now but may be "
    "later; the same command then writes their shards again.",
    "data:folds": 'Write DATASET/folds.csv, to inspect or edit by hand; "nonet train" uses it.',
}
USER_COMMANDS = {
    "review:add": "Add a user. From then on, everybody who opens the page logs in.",
    "review:list_": "List the users, their roles and API tokens.",
    "review:remove": "Remove a user, who is logged out at once. Decisions and signatures stay.",
    "review:password": "Change a user's password, and end the user's logins.",
    "review:role": "Change a user's role, and end the user's logins.",
    "review:token": 'Make an API token, and print it once. A program that sends "Authorization: Bearer TOKEN" acts as '
    "the user.",
    "review:revoke": "Revoke an API token of a user, or all of them and every login.",
}
for parent, commands in ((app, COMMANDS), (data, DATA_COMMANDS), (users, USER_COMMANDS)):
    for target, help_text in commands.items():
        if target == "listing:recipes":  # an App, which has its own group of parameters
            parent.command(f"nonet.cli.{target}", help=help_text)
        else:
            parent.command(f"nonet.cli.{target}", help=help_text, group_parameters=Group.create_default_parameters())
app.command(data)
app.command(users)
add_common_options(app)
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # `main` prints how to continue


def main() -> None:
    """Run the command line; an error that the user can act on is a message, not a traceback."""
    handler = AboveBars(sys.stderr)
    handler.setFormatter(LogFormatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    leave(run_for_exit_status(_run_command))


class LogFormatter(logging.Formatter):
    """Replaces parameters by options, and escapes control characters in file names."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(with_options(super().format(record)))


def _run_command() -> None:
    try:
        app.meta(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise _usage_error(error) from error


def _usage_error(error: CycloptsError) -> NonetError:
    """Return an error that names arguments as the help does."""
    chain = [*(error.command_chain or ())]
    command = " ".join(["nonet", *chain])
    message, argument = str(error).strip(), error.argument
    unused = getattr(error, "unused_tokens", None)
    if type(error).__name__ == "MissingArgumentError" and argument is not None:
        positional = argument.field_info.kind is not argument.field_info.KEYWORD_ONLY
        if positional and not argument.tokens:
            message = f"{argument.name.lstrip('-').upper()} is missing."
        elif argument.required:
            message = f"{argument.name} is missing, or has no value."
        else:
            message = f"{argument.name} has no value."
    elif type(error).__name__ == "UnusedCliTokensError" and unused:
        message = f'"{command}" does not take {" ".join(unused)}.'
        if chain == ["recipes"]:
            names = ["show", *nonet.list_recipes()]
            message = f"{message} {did_you_mean(unused[0], names)}".rstrip()
    return NonetError(message, hint=f'Help: "{command} --help"')
