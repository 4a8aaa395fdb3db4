"""Where things are on a node, and what the site has decided: `/etc/leeward/leeward.toml`.

Every path hangs below one root, `/` on a node and a scratch folder in tests. The file may be
absent; then the defaults hold. An unknown key is an error, so that a typing mistake is never taken
for a decision.

    [node]        name = "llm01"                # default: the kernel's host name
    [gateway]     host = "0.0.0.0"  port = 8443  slow_start_s = 10  slow_request_s = 120
    [metrics]     token_sha256 = "9f86d0..."  networks = ["10.1.0.9/32"]  # who reads /metrics; default: nobody
    [[engines]]   name = "near"  socket = "/run/leeward-engine/engine.sock"  # default: this node's engine alone
                  name = "far"  address = "10.1.0.12"  port = 8444  tls_name = "llm02"  slots = 128
    [door]        callers = ["llm01"]  port = 8444  networks = []  # other nodes' gateways at this engine; default: none
    [site]        time_servers = ["10.1.0.5"]          # IPv4 addresses; the firewall lets the node ask them
                  sign_in_servers = ["10.1.0.9"]       # the provider and the directory that sign-in.toml names
    [firewall]    management_networks = ["10.1.0.0/24"] # who may use SSH; default: whoever can reach the node
                  gateway_networks = []  name_servers = []  ssh_ports = [22]  address_leases = true
    [hardening]   ssh = true                           # whether Leeward sets rules for the SSH server
    [plan]        second_admin = false                 # change the node only by a plan that another approved
    [acceptance]  after_change = false                 # measure the node at the end of each install and provision
    [import]      scan = ["/usr/bin/clamdscan", "--fdpass", "--no-summary"]  # asked about each volume; default: none
    [simulation]  nvml = "/path/to/libnvidia-ml.so.1"   # a twin of NVML; absent: the real one
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import GenericAlias
from typing import Any

from appliance.domain.errors import ConfigInvalid
from appliance.domain.sign_in import SignInSettings, sign_in_settings
from appliance.gateway_settings import (
    OWN_ENGINE,
    REMEDY,
    TCP_PORTS,
    DoorSettings,
    EngineSettings,
    GatewaySettings,
    MetricsSettings,
    check_engines,
)

ROOT_VARIABLE = "LEEWARD_ROOT"
"""Environment variable that moves every path below another root (tests, demonstrations)."""

_TEXTS = list[str]
_NUMBERS = list[int]
_KEYS: dict[str, dict[str, type | GenericAlias]] = {
    "node": {"name": str},
    "gateway": {"host": str, "port": int, "slow_start_s": int, "slow_request_s": int},
    "metrics": {"token_sha256": str, "networks": _TEXTS},
    "door": {"port": int, "callers": _TEXTS, "networks": _TEXTS},
    "engines": {"name": str, "socket": str, "address": str, "port": int, "tls_name": str, "slots": int},
    "site": {"time_servers": _TEXTS, "sign_in_servers": _TEXTS},
    "firewall": {
        "management_networks": _TEXTS,
        "gateway_networks": _TEXTS,
        "name_servers": _TEXTS,
        "ssh_ports": _NUMBERS,
        "address_leases": bool,
    },
    "hardening": {"ssh": bool},
    "plan": {"second_admin": bool},
    "acceptance": {"after_change": bool},
    "import": {"scan": _TEXTS},
    "simulation": {"nvml": str},
}
_LISTS = frozenset({"engines"})
"""Tables that may stand there several times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The paths of docs/design.md below one root."""

    root: Path = Path("/")

    @property
    def config_file(self) -> Path:
        """Site configuration."""
        return self.root / "etc/leeward/leeward.toml"

    @property
    def tls_key(self) -> Path:
        """Private key of the gateway."""
        return self.root / "etc/leeward/tls/server.key"

    @property
    def tls_certificate(self) -> Path:
        """Certificate of the gateway."""
        return self.root / "etc/leeward/tls/server.crt"

    @property
    def engine_tls(self) -> Path:
        """Identities between nodes: `ca.crt`; `client.crt` and `client.key` of the gateway, `server.*` of the door."""
        return self.root / "etc/leeward/engines"

    @property
    def price_book(self) -> Path:
        """The site's own prices, for `leeward costs`."""
        return self.root / "etc/leeward/prices.toml"

    @property
    def sign_in_file(self) -> Path:
        """What the site decided about sign-in; absent: nobody signs in."""
        return self.root / "etc/leeward/sign-in.toml"

    @property
    def capture_order(self) -> Path:
        """Whether prompts and answers are captured, and for whom; absent: not. The daemon writes it."""
        return self.root / "etc/leeward/capture.json"

    @property
    def sign_in_socket(self) -> Path:
        """Where the sign-in service listens for the gateway."""
        return self.root / "run/leeward-sign-in/sign-in.sock"

    @property
    def data(self) -> Path:
        """Everything that must survive."""
        return self.root / "var/lib/leeward"

    @property
    def trust(self) -> Path:
        """Trusted root, TUF state, time ratchet."""
        return self.data / "trust"

    @property
    def store(self) -> Path:
        """Content-addressed files of imported releases."""
        return self.data / "store"

    @property
    def slots(self) -> Path:
        """One folder per imported release."""
        return self.data / "slots"

    @property
    def current_slot(self) -> Path:
        """Symbolic link to the active slot."""
        return self.slots / "current"

    @property
    def database(self) -> Path:
        """Operations, events, audit log, licence records."""
        return self.data / "state/leeward.db"

    @property
    def reports(self) -> Path:
        """Support reports on what Leeward did not foresee."""
        return self.data / "state/reports"

    @property
    def ledger(self) -> Path:
        """API keys and usage records."""
        return self.data / "ledger/ledger.db"

    @property
    def evidence_keys(self) -> Path:
        """The site's own signing keys."""
        return self.data / "evidence-keys"

    @property
    def exports(self) -> Path:
        """Evidence bundles."""
        return self.data / "exports"

    @property
    def receipts(self) -> Path:
        """Custody receipts, one folder for each release."""
        return self.exports / "receipts"

    @property
    def management_socket(self) -> Path:
        """Where the management daemon listens."""
        return self.root / "run/leeward/management.sock"

    @property
    def restart_reasons(self) -> Path:
        """Why this boot must end; in memory, one file for each reason."""
        return self.root / "run/leeward-restart"

    @property
    def drained_engines(self) -> Path:
        """Which engines an administrator took out; in memory, one empty file for each."""
        return self.root / "run/leeward-drained"

    @property
    def engine_standings(self) -> Path:
        """How the gateway sees the engines; in memory."""
        return self.root / "run/leeward-gateway/engines.json"

    @property
    def engine_socket(self) -> Path:
        """Where the engine listens."""
        return self.root / "run/leeward-engine/engine.sock"

    @property
    def appliance_environment(self) -> Path:
        """The active Python environment of the appliance."""
        return self.root / "opt/leeward/appliance/current"

    @property
    def engine_environments(self) -> Path:
        """One Python environment per slot, and `current`."""
        return self.root / "opt/leeward/engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """What is not real on this node; `None` everywhere in production."""

    nvml: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """Whether the node is changed only by a plan that a second administrator approved."""

    second_admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSettings:
    """The scanner that is asked about every volume before anything is copied from it; `None`: nobody is asked."""

    scan: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.scan is not None and not (self.scan and self.scan[0].startswith("/")):
            raise ConfigInvalid(detail="import.scan does not begin with the path of a program.", remedy=REMEDY)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallSettings:
    """Who may reach the node and what the node may ask; the default is SSH and gateway for all, and nothing out.

    Networks and addresses are IPv4: IPv6 is closed but for what a link needs.
    """

    management_networks: tuple[str, ...] = ()
    gateway_networks: tuple[str, ...] = ()
    time_servers: tuple[str, ...] = ()
    sign_in_servers: tuple[str, ...] = ()
    name_servers: tuple[str, ...] = ()
    ssh_ports: tuple[int, ...] = (22,)
    address_leases: bool = True

    def __post_init__(self) -> None:
        wrong = [f"{text!r} is no IPv4 network" for text in self._networks if not _is_ipv4(IPv4Network, text)]
        wrong += [f"{text!r} is no IPv4 address" for text in self._addresses if not _is_ipv4(IPv4Address, text)]
        wrong += [f"SSH port {port} is not 1 to 65535" for port in self.ssh_ports if not 0 < port <= TCP_PORTS]
        if not self.ssh_ports:
            wrong.append("firewall.ssh_ports is empty, which would shut every administrator out")
        if wrong:
            raise ConfigInvalid(detail=f"{'; '.join(wrong)}.", remedy=REMEDY)

    @property
    def _networks(self) -> tuple[str, ...]:
        return (*self.management_networks, *self.gateway_networks)

    @property
    def _addresses(self) -> tuple[str, ...]:
        return (*self.time_servers, *self.sign_in_servers, *self.name_servers)

    @property
    def variables(self) -> dict[str, object]:
        """The variables of the roles `firewall` and `base` that follow."""
        return {
            "base_time_servers": list(self.time_servers),
            "firewall_ssh_sources": list(self.management_networks),
            "firewall_gateway_sources": list(self.gateway_networks),
            "firewall_time_servers": list(self.time_servers),
            "firewall_name_servers": list(self.name_servers),
            "firewall_sign_in_servers": list(self.sign_in_servers),
            "firewall_ssh_ports": list(self.ssh_ports),
            "firewall_address_leases": self.address_leases,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The site's decisions and the paths they apply to."""

    node_name: str
    paths: Paths = field(default_factory=Paths)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    engines: tuple[EngineSettings, ...] = ()
    door: DoorSettings = field(default_factory=DoorSettings)
    simulation: SimulationSettings = field(default_factory=SimulationSettings)
    firewall: FirewallSettings = field(default_factory=FirewallSettings)
    hardens_ssh: bool = True
    imports: ImportSettings = field(default_factory=ImportSettings)
    plan: PlanSettings = field(default_factory=PlanSettings)
    accepts_changes: bool = False

    @property
    def engine_places(self) -> dict[str, str]:
        """Each engine behind the gateway, and where it is."""
        named = {one.name: one.place for one in self.engines}
        return named or {OWN_ENGINE: str(self.paths.engine_socket)}

    @property
    def role_variables(self) -> dict[str, object]:
        """Variables of the roles that follow from the site's decisions."""
        return {
            **self.firewall.variables,
            **self.door.variables,
            "firewall_gateway_port": self.gateway.port,
            "firewall_engines": [
                {"address": engine.address, "port": engine.port} for engine in self.engines if engine.address
            ],
            "hardening_ssh": self.hardens_ssh,
        }

    @classmethod
    def load(cls, root: Path | None = None) -> Settings:
        """Read the configuration below `root` (default: `$LEEWARD_ROOT`, else `/`).

        Raises ConfigInvalid, which names the unknown key, the wrong type or the line that does not parse.
        """
        paths = Paths(root=root or Path(os.environ.get(ROOT_VARIABLE) or "/"))
        return parse_settings(_text(paths.config_file), paths=paths, host_name=os.uname().nodename)


def parse_settings(text: str, *, paths: Paths, host_name: str) -> Settings:
    """Turn the file's text into Settings; raises ConfigInvalid."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(detail=f"{paths.config_file} does not parse: {error}.", remedy=REMEDY) from error
    wrong = [complaint for name, table in tables.items() for complaint in _complaints(name, table)]
    if wrong:
        raise ConfigInvalid(detail=f"{paths.config_file}: {'; '.join(wrong)}.", remedy=REMEDY)
    nvml = tables.get("simulation", {}).get("nvml")
    firewall = {**tables.get("firewall", {}), **tables.get("site", {})}
    return Settings(
        node_name=tables.get("node", {}).get("name", host_name),
        paths=paths,
        gateway=GatewaySettings(**tables.get("gateway", {})),
        metrics=MetricsSettings(**_frozen(tables.get("metrics", {}))),
        engines=_engines(tables.get("engines", [])),
        door=DoorSettings(**_frozen(tables.get("door", {}))),
        simulation=SimulationSettings(nvml=None if nvml is None else Path(nvml)),
        firewall=FirewallSettings(**_frozen(firewall)),
        plan=PlanSettings(**tables.get("plan", {})),
        imports=ImportSettings(**_frozen(tables.get("import", {}))),
        hardens_ssh=tables.get("hardening", {}).get("ssh", True),
        accepts_changes=tables.get("acceptance", {}).get("after_change", False),
    )


def _engines(tables: list[dict[str, Any]]) -> tuple[EngineSettings, ...]:
    engines = tuple(
        EngineSettings(**{"name": "", **table, "socket": Path(table["socket"]) if "socket" in table else None})
        for table in tables
    )
    check_engines(engines)
    return engines


def read_sign_in(path: Path) -> SignInSettings:
    """Read what the site decided about sign-in; without the file nobody signs in. Raises ConfigInvalid."""
    return sign_in_settings(_text(path), where=str(path))


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _is_ipv4(kind: type[IPv4Network | IPv4Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _complaints(name: str, table: object) -> list[str]:
    known = _KEYS.get(name)
    if known is None:
        return [f"unknown key {name}"]
    if name in _LISTS:
        if not isinstance(table, list):
            return [f"{name} is not a list of tables"]
        return [complaint for one in table for complaint in _of_table(name, one)]
    return _of_table(name, table)


def _of_table(name: str, table: object) -> list[str]:
    known = _KEYS[name]
    if not isinstance(table, dict):
        return [f"{name} is not a table"]
    unknown = [f"unknown key {name}.{key}" for key in table if key not in known]
    mistyped = [
        f"{name}.{key} is {_kind(value)}, not {_kind_name(known[key])}"
        for key, value in table.items()
        if key in known and not _fits(value, known[key])
    ]
    return unknown + mistyped


def _fits(value: object, kind: type | GenericAlias) -> bool:
    if isinstance(kind, GenericAlias):
        return isinstance(value, list) and all(type(each) is kind.__args__[0] for each in value)
    return type(value) is kind


def _kind(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {', '.join(sorted({type(each).__name__ for each in value})) or 'nothing'}"
    return type(value).__name__


def _kind_name(kind: type | GenericAlias) -> str:
    return f"a list of {kind.__args__[0].__name__}" if isinstance(kind, GenericAlias) else kind.__name__


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(detail=f"{path} cannot be read: {error}.", remedy=REMEDY) from error
