"""An ensemble's members: their files checked, their networks loaded onto a backend."""

from dataclasses import dataclass

from nonet.artifacts.ensemble_file import EnsembleFile
from nonet.artifacts.integrity import read_done, require_whole
from nonet.artifacts.run import Member, Run, repair_hint
from nonet.calibration.ood import MemberScore
from nonet.data.preprocess.crop import Crop
from nonet.inference.backends.choice import Backend, Network
from nonet.models.backbones import get_crop
from nonet.recipe import Recipe


@dataclass(frozen=True)
class LoadedMember:
    """A member ready to predict.

    Attributes
    ----------
    member : Member
        Its files.
    network : Network
        As the backend runs it.
    crop : Crop
        What it sees of an image.
    weight : float
        Its weight in the ensemble, above 0.
    ood : MemberScore or None
        Its out-of-distribution score; None if nothing is rejected.
    """

    member: Member
    network: Network
    crop: Crop
    weight: float
    ood: MemberScore | None = None

    @property
    def name(self) -> str:
        """ARCHITECTURE/fold-K."""
        return self.member.name


def load_members(
    backend: Backend, run: Run, recipe: Recipe, ensemble: EnsembleFile, *, with_scores: bool
) -> list[LoadedMember]:
    """Load the members with non-zero weight.

    Parameters
    ----------
    backend : Backend
    run : Run
    recipe : Recipe
        Of the run.
    ensemble : EnsembleFile
        Of the run.
    with_scores : bool
        Whether to load out-of-distribution scores as well.

    Returns
    -------
    list of LoadedMember

    Raises
    ------
    DamagedError
        If a file of a member is missing or damaged.
    """
    entries = [entry for entry in ensemble.members if entry.weight > 0]
    members = [run.member(entry.architecture, entry.fold) for entry in entries]
    scores = backend.map(lambda member: _check(member, run, with_scores=with_scores), members)
    return [
        LoadedMember(member, network, get_crop(member.architecture, recipe.models), entry.weight, score)
        for member, network, entry, score in zip(members, backend.load(members), entries, scores, strict=True)
    ]


def _check(member: Member, run: Run, *, with_scores: bool) -> MemberScore | None:
    """Check a member's files, and return its out-of-distribution score if it is wanted."""
    done, hint = read_done(member), repair_hint(run)
    require_whole(member.weights, done["files"].get(member.weights.name), hint=hint)
    if not with_scores:
        return None
    require_whole(member.ood, done["files"].get(member.ood.name), hint=hint)
    return MemberScore.read(member.ood)
