"""The adapters that touch the node: which one stands behind which port, and what of it is simulated."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.adapters.ansible import AnsibleRunner
from appliance.adapters.clock import SystemClock
from appliance.adapters.gateway import TlsGatewayProbe
from appliance.adapters.host import DiskTimer, HostProbe, SystemdServices
from appliance.adapters.host.boot import BootFiles
from appliance.adapters.host.egress import EgressTables
from appliance.adapters.host.kernel_log import KernelXids
from appliance.adapters.host.scanner import SiteScanner
from appliance.adapters.nvml import NvmlProbe
from appliance.adapters.simulated import preload_mock_nvml
from appliance.adapters.vllm import VllmEngine
from appliance.config import Settings
from appliance.domain.errors import ConfigInvalid
from appliance.domain.xid import XidSeen
from appliance.ports import (
    BurnIn,
    DiskMeter,
    Engine,
    GatewayProbe,
    LoadMeter,
    MediaScanner,
    NodeBoot,
    NodeProbe,
    PlaybookRunner,
    ServiceManager,
)
from appliance.services.egress import EgressSource

GATEWAY_ACCOUNT = "leeward-gateway"
AUDITOR_GROUP = "leeward-auditor"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The adapters that touch the node; tests give twins of some."""

    probe: NodeProbe
    services: ServiceManager
    engine: Engine
    runner: PlaybookRunner
    gateway: GatewayProbe
    ledger_owner: Callable[[], tuple[int, int]]
    simulated: tuple[str, ...]
    boot: NodeBoot
    meter: DiskMeter | None = None
    scanner: MediaScanner | None = None
    egress: EgressSource = field(default_factory=EgressTables)
    xids: Callable[[], tuple[XidSeen, ...] | None] = tuple
    burn_in: BurnIn | None = None
    load: LoadMeter | None = None


def real_world(settings: Settings) -> World:
    """Make the adapters of a node. Raises ConfigInvalid where the simulated NVML does not load."""
    twin = settings.simulation.nvml
    gpus = NvmlProbe() if twin is None else preload_mock_nvml(twin)
    services = SystemdServices()
    return World(
        probe=HostProbe(
            gpus=gpus,
            clock=SystemClock(),
            gateway_port=settings.gateway.port,
            ssh_ports=settings.firewall.ssh_ports,
            management_networks=settings.firewall.management_networks,
        ),
        services=services,
        engine=VllmEngine(settings.paths.engine_socket, services=services),
        runner=AnsibleRunner(settings.paths.data / "state/ansible"),
        gateway=TlsGatewayProbe(port=settings.gateway.port, certificate=settings.paths.tls_certificate),
        ledger_owner=ledger_owner,
        simulated=() if twin is None else ("gpus",),
        boot=BootFiles(settings.paths.restart_reasons),
        xids=KernelXids().read,
        meter=DiskTimer(),
        scanner=None if settings.imports.scan is None else SiteScanner(settings.imports.scan),
    )


def ledger_owner() -> tuple[int, int]:
    """Return account and group of the ledger. Raises ConfigInvalid before the play has made them."""
    try:
        return pwd.getpwnam(GATEWAY_ACCOUNT).pw_uid, grp.getgrnam(AUDITOR_GROUP).gr_gid
    except KeyError as error:
        raise ConfigInvalid(
            detail=f"The node lacks the account {GATEWAY_ACCOUNT} or the group {AUDITOR_GROUP}.",
            remedy="Run `leeward provision`, whose play makes them.",
        ) from error
