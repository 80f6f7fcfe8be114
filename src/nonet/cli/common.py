"""The options that every command takes, before or after its name, and what they do."""

import logging
from typing import Annotated

from cyclopts import App, Group, Parameter

from nonet.errors import NonetError
from nonet.progress import hide_progress

logger = logging.getLogger("nonet")


def add_common_options(app: App) -> None:
    """Add --quiet, --verbose and --install-completion to an app; call `app.meta` instead of `app` from then on."""
    app.meta.group_parameters = Group("Options of every command", sort_key=0)
    app.register_install_completion_command(
        help="Set up completion of nonet's commands and options in your shell (bash, zsh, fish or PowerShell)."
    )

    @app.meta.default
    def start(
        *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
        verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())] = False,
    ) -> None:
        """Run a command.

        Parameters
        ----------
        quiet : bool
            Print results, warnings and errors only: no progress, no notes.
        verbose : bool
            Print details as well, such as the scores of every epoch, each line with the time.
        """
        if quiet and verbose:
            raise NonetError("--quiet and --verbose contradict each other.", hint="Give only one of them.")
        hide_progress(quiet)
        logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
        if verbose:
            for handler in logger.handlers:
                if handler.formatter is not None:
                    handler.setFormatter(type(handler.formatter)("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        app(words, exit_on_error=False, print_error=False)


def is_quiet() -> bool:
    """Return whether --quiet was given."""
    return logger.getEffectiveLevel() > logging.INFO
