"""Where members are trained: here or on a cluster, on how many devices. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nonet.artifacts.mirror import Mirror
from nonet.errors import RunError
from nonet.jobs.engines import make_engine, require_engine
from nonet.jobs.gpus import count_gpus, require_gpus
from nonet.jobs.tasks import Engine, Needs
from nonet.models.accelerators import require_devices
from nonet.workers import num_processors


@dataclass(frozen=True)
class Placement:
    """Where members are trained.

    Attributes
    ----------
    on : {"local", "ray", "slurm"}
    accelerator : str
        One of `nonet.models.accelerators.ACCELERATORS`.
    devices : int or None
        How many devices are used at a time; None is all of them.
    share : int
        How many of them share each batch of a member.
    address : str or None
        Of a Ray cluster.
    options : mapping of str to str
        Of sbatch.
    mirror : Mirror or None
        If the run is in an object store, this machine's copy of it.
    """

    on: str = "local"
    accelerator: str = "auto"
    devices: int | None = None
    share: int = 1
    address: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    mirror: Mirror | None = None

    def require(self) -> None:
        """Check everything that can be checked without torch.

        Raises
        ------
        NonetError
            If a name is unknown, a package is missing, or the numbers contradict each other.
        """
        require_engine(self.on, address=self.address, options=self.options)
        require_devices(self.accelerator, self.share)
        if self.devices is not None:
            require_devices(self.accelerator, self.devices)
            if self.on == "local" and self.accelerator in ("auto", "gpu", "cuda"):
                require_gpus(self.devices)
            if self.devices % self.share:
                raise RunError(
                    f"{self.devices} devices cannot be divided among members of {self.share} each.",
                    hint="Give a multiple of `devices_per_member` as `devices`.",
                )

    @property
    def is_here(self) -> bool:
        """Whether members are trained one after another, by this process and those that it starts for a member."""
        return self.on == "local" and self.num_slots == 1

    @property
    def num_slots(self) -> int | None:
        """How many members are trained at a time; None leaves it to the cluster."""
        if self.devices is not None:
            return self.devices // self.share
        return None if self.on != "local" else max(1, _num_gpus(self.accelerator) // self.share)

    def make_engine(self, folder: Path) -> Engine:
        """Return the engine; Slurm's jobs leave their logs in the folder."""
        return make_engine(self.on, folder=folder, address=self.address, num_slots=self.num_slots, options=self.options)

    def needs(self, engine: Engine) -> Needs:
        """Return what a member needs of this engine's machines."""
        on_gpu = self.accelerator in ("gpu", "cuda") or (self.accelerator == "auto" and engine.has_gpus())
        num_slots = self.num_slots or 1
        share = max(1, num_processors() // num_slots) if self.on == "local" else None  # a cluster knows its nodes
        return Needs(devices=self.share if on_gpu else 0, processors=share)


def _num_gpus(accelerator: str) -> int:
    return count_gpus() if accelerator in ("auto", "gpu", "cuda") else 0
