"""Who asks, and what the management daemon says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appliance.domain.projection import OperationView


class Role(StrEnum):
    """What a caller may do; the name of the Unix group is `leeward-` and the value."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"

    @property
    def group(self) -> str:
        """The Unix group whose members have this role."""
        return f"leeward-{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """The daemon's own words about the node; `roles` and `caller` are of whoever asked.

    `slot` is `None` where no release is current; `simulated` names what is not real here.
    """

    node: str
    appliance_version: str
    slot: str | None
    unfinished: OperationView | None
    simulated: tuple[str, ...]
    caller: str
    roles: tuple[Role, ...]
