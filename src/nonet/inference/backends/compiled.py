"""Forms of a member's network that a backend made, kept in the run so that they are made once.

Each is a folder with the backend's files and compiled.json, which is written last: it says what the files were made
of, and their checksums. What does not fit, or is damaged, is made again.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nonet.artifacts.integrity import file_facts, read_done, read_sealed, require_whole, write_sealed
from nonet.artifacts.run import Member, now, written_whole
from nonet.errors import DamagedError, NonetError, StorageError
from nonet.recipe import Models

if TYPE_CHECKING:
    from nonet.inference.backends.openvino_library import openvino

logger = logging.getLogger("nonet")

VERSION = 1  # of the conversion; increase it with every change, so that older forms are made again


@dataclass(frozen=True)
class Compiled:
    """A member's network in a backend's form.

    Attributes
    ----------
    kind : {"openvino", "openvino-int8"}
        In single precision, or in int8.
    member : Member
    models : Models
        The recipe's section, which determines the network together with the weights.
    num_classes : int
        Length of the logits.
    """

    kind: str
    member: Member
    models: Models
    num_classes: int

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.member.run.compiled / self.kind / self.member.architecture / f"fold-{self.member.fold}"

    @property
    def structure(self) -> Path:
        """OpenVINO's description of the network."""
        return self.folder / "model.xml"

    @property
    def weights(self) -> Path:
        """OpenVINO's weights."""
        return self.folder / "model.bin"

    @property
    def record(self) -> Path:
        """What it was made of, and checksums."""
        return self.folder / "compiled.json"

    def _origin(self) -> dict:
        done = read_done(self.member)
        return {
            "version": VERSION,
            "weights": done["files"][self.member.weights.name]["sha256"],
            "models": self.models.model_dump(mode="json"),
            "num_classes": self.num_classes,
        }

    def read(self, core: "openvino.Core") -> "openvino.Model | None":
        """Read it.

        Parameters
        ----------
        core : openvino.Core

        Returns
        -------
        openvino.Model or None
            None where it must be made: it is missing, damaged, or of other weights.
        """
        if not self.record.exists():
            return None
        try:
            record = read_sealed(self.record, hint="It is made again.")
            if record.get("origin") != self._origin():
                return None
            for file in (self.structure, self.weights):
                require_whole(file, record["files"].get(file.name), hint="It is made again.")
            return core.read_model(self.structure, self.weights)
        except (DamagedError, KeyError, RuntimeError) as error:
            logger.warning(f"{error} It is made again.")
            return None

    def keep(self, model: "openvino.Model", core: "openvino.Core") -> "openvino.Model":
        """Write it, and return what will be read the next time.

        Parameters
        ----------
        model : openvino.Model
        core : openvino.Core

        Returns
        -------
        openvino.Model
            The model given, with a warning, where it cannot be written: the run is read-only, or the disk is full.
        """
        from nonet.inference.backends.openvino_library import openvino

        try:
            with written_whole(self.weights) as weights, written_whole(self.structure) as structure:
                openvino.serialize(model, structure, weights)
            write_sealed(
                self.record,
                {
                    "origin": self._origin(),
                    "made": now(),
                    "made_with": {"openvino": openvino.__version__},
                    "files": {file.name: file_facts(file) for file in (self.structure, self.weights)},
                },
            )
        except (StorageError, OSError) as error:
            text = error.message if isinstance(error, NonetError) else str(error)
            logger.warning(f"The network that was prepared for OpenVINO cannot be kept: {text}")
        return self.read(core) or model
