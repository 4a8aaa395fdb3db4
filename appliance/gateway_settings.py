"""What the site decides about the gateway: parts of `/etc/leeward/leeward.toml`, read by `appliance.config`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from appliance.domain.errors import ConfigInvalid
from appliance.domain.tenancy import networks_of

REMEDY: Final = "Correct /etc/leeward/leeward.toml (docs: admin guide, site configuration) and restart the service."
TCP_PORTS: Final = 65_535
ENGINE_PORT: Final = 8_444
OWN_ENGINE: Final = "engine"
"""The name of this node's engine where the settings name none."""
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Where tenants' programs reach the gateway, and from when on a request is slow enough for a line in the log.

    Seconds until a stream's first token, and until any answer's end.
    """

    host: str = "0.0.0.0"  # noqa: S104  the data plane serves the site's network; TLS and keys guard it
    port: int = 8443
    slow_start_s: int = 10
    slow_request_s: int = 120

    def __post_init__(self) -> None:
        _check_port("gateway.port", self.port)
        if min(self.slow_start_s, self.slow_request_s) < 1:
            raise ConfigInvalid(detail="gateway.slow_start_s and slow_request_s are at least 1.", remedy=REMEDY)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Who reads `GET /metrics`: the bearer of the token with this SHA-256, from these networks (none: from anywhere).

    Without a token there is no such page.
    """

    token_sha256: str | None = None
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.token_sha256 is not None and not _SHA256.fullmatch(self.token_sha256):
            raise ConfigInvalid(detail="metrics.token_sha256 is not 64 hexadecimal digits.", remedy=REMEDY)
        try:
            networks_of(self.networks)
        except ValueError as problem:
            raise ConfigInvalid(detail=f"metrics.networks: {problem}.", remedy=REMEDY) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """One engine behind the gateway: a Unix socket of this node, or an address that is spoken to by mutual TLS.

    `tls_name` is the name in the certificate of an engine elsewhere; `slots` is how many requests it
    takes at a time, `None` for as many as the release says.
    """

    name: str
    socket: Path | None = None
    address: str | None = None
    port: int = ENGINE_PORT
    tls_name: str | None = None
    slots: int | None = None

    def __post_init__(self) -> None:
        wrong = None
        if not _NAME.fullmatch(self.name):
            wrong = "its name is not 1 to 63 small letters, digits, dots and dashes"
        elif (self.socket is None) == (self.address is None):
            wrong = "it has either a socket or an address"
        elif self.socket is not None and not self.socket.is_absolute():
            wrong = "its socket is not a path that begins with /"
        elif self.address is not None and not _is_ipv4(self.address):
            wrong = f"{self.address!r} is no IPv4 address"
        elif self.slots is not None and self.slots < 1:
            wrong = "its slots are at least 1"
        if wrong:
            raise ConfigInvalid(detail=f"engines: {self.name!r}: {wrong}.", remedy=REMEDY)
        _check_port(f"engines: {self.name}: port", self.port)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.address}:{self.port}" if self.socket is None else str(self.socket)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """Whose gateways may ask this node's engine: names in their certificates; without any there is no door.

    `networks` are the IPv4 networks from which the firewall lets them in (none: from anywhere).
    """

    port: int = ENGINE_PORT
    callers: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_port("door.port", self.port)
        try:
            networks_of(self.networks)
        except ValueError as problem:
            raise ConfigInvalid(detail=f"door.networks: {problem}.", remedy=REMEDY) from problem

    @property
    def variables(self) -> dict[str, object]:
        """The variables of the roles `engine_door` and `firewall` that follow; port 0 means no door."""
        port = self.port if self.callers else 0
        return {"engine_door_port": port, "firewall_door_port": port, "firewall_door_sources": list(self.networks)}


def check_engines(engines: tuple[EngineSettings, ...]) -> None:
    """Raise ConfigInvalid where two engines have one name."""
    names = [engine.name for engine in engines]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigInvalid(detail=f"engines: {', '.join(twice)} stands there more than once.", remedy=REMEDY)


def _check_port(name: str, port: int) -> None:
    if not 0 < port <= TCP_PORTS:
        raise ConfigInvalid(detail=f"{name} is {port}, not 1 to 65535.", remedy=REMEDY)


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
