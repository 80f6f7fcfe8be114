"""`nonet serve`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import nonet
from nonet.cli.options import RunFolder, documented_by


@documented_by("serve")
def serve(
    run: RunFolder,
    *,
    cases: Annotated[list[Path] | None, Parameter(negative=(), consume_multiple=True)] = None,
    port: int = 8765,
    host: str = "127.0.0.1",
    reviewer: str | None = None,
    translations: Annotated[list[Path] | None, Parameter(negative=(), consume_multiple=True)] = None,
    accelerator: str = "auto",
) -> None:
    nonet.serve(
        run,
        cases=cases or (),
        port=port,
        host=host,
        reviewer=reviewer,
        translations=translations or (),
        accelerator=accelerator,
    )
