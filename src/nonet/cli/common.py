"""The options that every command takes, before or after its name, and what they do."""

import logging
from typing import Annotated

from cyclopts import App, Group, Parameter

from nonet.errors import NonetError
from nonet.progress import hide_progress

logger = logging.getLogger("nonet")


def add_common_options(app: App) -> None:
    """Let a program take --quiet and --verbose, and --install-completion. Call `app.meta` instead of `app` then."""
    app.meta.group_parameters = Group("Options of every command", sort_key=0)
    app.register_install_completion_command(
        help="Teach your shell (bash, zsh, fish or PowerShell) to complete nonet's commands and options."
    )

    @app.meta.default
    def start(
        *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
        verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())] = False,
    ) -> None:
        """Run the command that the other words make up.

        Parameters
        ----------
        quiet
            Print results, warnings and errors only: no progress, no notes.
        verbose
            Print details as well, such as the scores of every epoch, each line with the time.
        """
        if quiet and verbose:
            raise NonetError("--quiet and --verbose contradict each other.", hint="Give one of them.")
        hide_progress(quiet)
        logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
        if verbose:
            for handler in logger.handlers:
                handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        app(words, exit_on_error=False, print_error=False)


def is_quiet() -> bool:
    """Return whether --quiet was given."""
    return logger.getEffectiveLevel() > logging.INFO
