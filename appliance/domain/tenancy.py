"""Who is metered: legal entity, team, holder (a person or a program), key.

A team belongs to one legal entity of the site and has one class of priority. What is set later
holds from then on; what was set before stays on record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

SITE_ENTITY: Final = "site"
"""The legal entity of a team for which none was named."""

Network = IPv4Network | IPv6Network


class Priority(StrEnum):
    """A team's class; `weight` says how many slots of the engine it gets beside one of weight 1."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"

    @property
    def weight(self) -> int:
        """Share of the engine while teams wait."""
        return _WEIGHTS[self]


_WEIGHTS: Final = {Priority.INTERACTIVE: 8, Priority.STANDARD: 4, Priority.BATCH: 1}


class HolderKind(StrEnum):
    """What a key is in the hands of."""

    PERSON = "person"
    PROGRAM = "program"


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A team as it stands since `set_at`."""

    team: str
    entity: str
    priority: Priority
    set_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key is good for; nothing said means no limit.

    `networks` are IPv4 or IPv6 networks in CIDR notation, `models` served model names. Raises
    ValueError for a network that is none.
    """

    holder: str | None = None
    holder_kind: HolderKind | None = None
    expires_at: datetime | None = None
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.holder is None) != (self.holder_kind is None):
            raise ValueError("a holder has a name and a kind")
        networks_of(self.networks)


@lru_cache(maxsize=4_096)
def networks_of(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Read networks; raises ValueError, also where bits beyond the prefix are set."""
    return tuple(ip_network(text) for text in texts)


def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks; an IPv4 address inside IPv6 counts as itself."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)
