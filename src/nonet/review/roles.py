"""The people who use the page, and their roles. Without FastAPI: commands about users do not serve a page."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["reader", "reviewer", "admin"]
#: Each may do what those before it may: look; decide, sign and upload; see and manage all that others did.
ROLES: tuple[Role, ...] = ("reader", "reviewer", "admin")


@dataclass(frozen=True)
class User:
    """A person who uses the page.

    Attributes
    ----------
    name : str
        Under which decisions are stored.
    role : {"reader", "reviewer", "admin"}
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether this person may do what somebody of a role may."""
        return ROLES.index(self.role) >= ROLES.index(role)
