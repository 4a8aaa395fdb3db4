"""What an uninstallation takes, and the words with which a person says so. Pure.

Without more than the node's name it takes what Leeward made and the packages that it brought; GPU
driver and records of the site stay. Records go only after a sentence that nobody types by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.domain.errors import RequestInvalid

KEEP = "keep"
REMOVE = "remove"


def records_sentence(node: str) -> str:
    """Return what a person must write to have the records of a node deleted."""
    return f"delete the records of {node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What goes besides Leeward's own files, units and accounts."""

    packages: bool = True
    drivers: bool = False
    records: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, str], *, node: str) -> Removal:
        """Read an operation's parameters; raises RequestInvalid unless they name this node and mean something."""
        wrong = []
        if parameters.get("node") != node:
            wrong.append(f"the node is named {parameters.get('node')!r}, and this is {node!r}")
        wrong += [
            f"{name} is {parameters[name]!r}, neither {KEEP} nor {REMOVE}"
            for name in ("packages", "drivers")
            if parameters.get(name, KEEP) not in (KEEP, REMOVE)
        ]
        if parameters.get("records", sentence := records_sentence(node)) != sentence:
            wrong.append(f"records are deleted only for the words {sentence!r}")
        if wrong:
            raise RequestInvalid(
                detail=f"Nothing was removed: {'; '.join(wrong)}.",
                remedy="`leeward status` says this node's name; `leeward uninstall --help` says what can be asked.",
            )
        return cls(
            packages=parameters.get("packages", REMOVE) == REMOVE,
            drivers=parameters.get("drivers", KEEP) == REMOVE,
            records="records" in parameters,
        )

    @property
    def variables(self) -> dict[str, object]:
        """Return the variables of role `base` that follow."""
        return {
            "base_uninstall_packages": self.packages,
            "base_uninstall_drivers": self.drivers,
            "base_uninstall_records": self.records,
        }
