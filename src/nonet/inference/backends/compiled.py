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
from nonet.errors import DamagedError
from nonet.recipe import Models

if TYPE_CHECKING:
    from nonet.inference.backends.openvino_library import openvino

logger = logging.getLogger("nonet")

#: Of the conversion, and of quantisation after it; increase one with every change, so that older forms are made again.
VERSIONS = {"openvino": 1, "openvino-int8": 1}


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
            "version": VERSIONS[self.kind],
            "weights": done["files"][self.member.weights.name]["sha256"],
            "models": self.models.model_dump(mode="json"),
            "num_classes": self.num_classes,
        }

    def is_whole(self) -> bool:
        """Return whether it is there, undamaged, and of the member's weights; else it must be made again."""
        if not self.record.exists():
            return False
        try:
            record = read_sealed(self.record, hint="It is made again.")
            if record.get("origin") != self._origin():
                return False
            for file in (self.structure, self.weights):
                require_whole(file, record["files"].get(file.name), hint="It is made again.")
        except DamagedError as error:
            logger.warning(error)
            return False
        return True

    def read(self, core: "openvino.Core") -> "openvino.Model":
        """Read it, once `is_whole` has said that it can be.

        Parameters
        ----------
        core : openvino.Core

        Returns
        -------
        openvino.Model

        Raises
        ------
        DamagedError
            If OpenVINO cannot read it.
        """
        try:
            return core.read_model(self.structure, self.weights)
        except RuntimeError as error:
            raise DamagedError(
                f"OpenVINO cannot read {self.structure}: {str(error).splitlines()[0]}",
                hint=f"Remove {self.folder}; then it is made again.",
            ) from error

    def write(self, model: "openvino.Model") -> None:
        """Write it.

        Parameters
        ----------
        model : openvino.Model

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        from nonet.inference.backends.openvino_library import openvino

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
