"""The engines by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from nonet.errors import NonetError, choose_from
from nonet.jobs.local import LocalEngine
from nonet.jobs.tasks import Engine

EngineName = Literal["local", "ray", "slurm"]
ENGINES: tuple[str, ...] = get_args(EngineName)


def require_engine(on: str, *, address: str | None = None, options: Mapping[str, str] | None = None) -> None:
    """Check the name of an engine, that its package is installed, and that its options are options of it.

    Parameters
    ----------
    on : str
        One of ENGINES.
    address : str, optional
        Of a Ray cluster.
    options : mapping of str to str, optional
        Options of sbatch, without their dashes.

    Raises
    ------
    NonetError
        If one of them is not valid.
    """
    if on not in ENGINES:
        raise NonetError(f'`on` is "{on}"; it must be one of {", ".join(ENGINES)}.', hint=choose_from(on, ENGINES))
    if address is not None and on != "ray":
        raise NonetError(f"`address` is that of a Ray cluster, and `on` is {on}.", hint="Leave it out, or use Ray.")
    if options and on != "slurm":
        raise NonetError(f"`job` has options of sbatch, and `on` is {on}.", hint="Leave it out, or use Slurm.")
    if on == "ray":
        from nonet.jobs.on_ray import import_ray

        import_ray()
    if on == "slurm":
        from nonet.jobs.on_slurm import import_submitit

        import_submitit()


def make_engine(
    on: str,
    *,
    folder: str | Path,
    address: str | None = None,
    num_slots: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Engine:
    """Return an engine.

    Parameters
    ----------
    on : {"local", "ray", "slurm"}
    folder : path
        Where Slurm's jobs leave their logs; all nodes see it.
    address : str, optional
        Of a Ray cluster; "auto" is the one that runs on this machine. Default: that of RAY_ADDRESS, or a new one of
        this machine alone.
    num_slots : int, optional
        How many tasks run at a time. Default: one on this machine, as many as there is room for on a cluster.
    options : mapping of str to str, optional
        Options of sbatch, such as partition, account and time.

    Returns
    -------
    Engine

    Raises
    ------
    NonetError
        As `require_engine`.
    """
    require_engine(on, address=address, options=options)
    if on == "ray":
        from nonet.jobs.on_ray import RayEngine

        return RayEngine(address, num_slots)
    if on == "slurm":
        from nonet.jobs.on_slurm import SlurmEngine

        return SlurmEngine(Path(folder), num_slots, options or {})
    return LocalEngine(num_slots or 1)
