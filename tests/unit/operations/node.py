"""A node of twins around real services: real trust, store, slots, journal, audit log and ledger.

Only what a test machine cannot be stands in: systemd, the engine, Ansible, the gateway's socket and
the facts of a fit node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from appliance.adapters.host.scanner import SiteScanner
from appliance.adapters.sql_ledger import KeyLookup, LedgerWriter, open_ledger
from appliance.config import Paths, Settings
from appliance.domain.egress import EgressReading
from appliance.domain.errors import Canceled, EngineNotReady, PlaybookFailed
from appliance.domain.health import EngineHealth
from appliance.domain.node import Filesystem, NodeFacts
from appliance.domain.restart import RestartReason
from appliance.domain.usage import Admission, Settlement, TokenUsage, UsageOutcome, UsageSource, UsageState
from appliance.ports import BurnIn, Emit, GatewayAnswer, IsCanceled, KnownAnswer, LoadMeter, PlayRequest, PlayResult
from appliance.services.management import Management
from appliance.wiring import World, management_of
from bundles.keys import Keyring
from bundles.trust import TrustStore
from tests.support.small_bundles import blank_release, write_bundle
from tests.unit.engine.releases import node as made_facts
from tests.unit.health.twins import QUIET


def fit_facts() -> NodeFacts:
    place = Filesystem(path="/var/lib/leeward", total_bytes=10**13, free_bytes=10**12, noexec=False, device="8:1")
    paths = ("/", "/tmp", "/opt", "/var/cache/leeward-engine", "/var/lib/leeward")  # noqa: S108  named, not used
    return replace(
        made_facts(gpus=0),
        cpu_flags=frozenset({"avx2", "avx512f", "avx512_bf16"}),
        filesystems=tuple(replace(place, path=path) for path in paths),
    )


@dataclass
class TwinProbe:
    seen: NodeFacts = field(default_factory=fit_facts)

    def facts(self) -> NodeFacts:
        return replace(self.seen, observed_at=datetime.now(UTC))


@dataclass
class TwinBoot:
    """A boot that ends when a test says so."""

    number: int = 1
    why: tuple[RestartReason, ...] = ()

    def boot_id(self) -> str:
        return f"boot-{self.number}"

    def reasons(self) -> tuple[RestartReason, ...]:
        return self.why

    def again(self, *why: RestartReason) -> None:
        self.number += 1
        self.why = why


@dataclass
class TwinUnits:
    started: dict[str, datetime] = field(default_factory=dict)
    restarts: list[str] = field(default_factory=list)
    reboots: int = 0
    state: str = "active"
    crashes_per_look: int = 0
    crashes: int = 0

    def start(self, unit: str) -> None:
        """Steps restart Leeward's units; only the machine's restart is started."""
        assert unit == "reboot.target"
        self.reboots += 1

    def stop(self, unit: str) -> None:
        self.started.pop(unit, None)

    def restart(self, unit: str) -> None:
        self.restarts.append(unit)
        self.started[unit] = datetime.now(UTC)

    def active_state(self, unit: str) -> str:
        return self.state if unit in self.started else "inactive"

    def started_at(self, unit: str) -> datetime | None:
        return self.started.get(unit)

    def automatic_restarts(self, unit: str) -> int:
        del unit
        self.crashes += self.crashes_per_look
        return self.crashes

    def log_tail(self, unit: str, lines: int) -> str:
        return f"{lines} lines of {unit}: CUDA out of memory"


@dataclass
class TwinEngine:
    says: str | None = "pong"
    silent_for: int = 0

    def health(self) -> EngineHealth:
        return QUIET

    def answer(self, prompt: str, *, max_tokens: int, timeout_s: float) -> KnownAnswer:
        del prompt, max_tokens, timeout_s
        if self.says is None or self.silent_for > 0:
            self.silent_for -= 1
            raise EngineNotReady(detail="the socket refuses the connection", remedy="Wait.")
        return KnownAnswer(text=self.says, prompt_tokens=5, completion_tokens=1)


@dataclass
class TwinPlaybooks:
    plays: list[PlayRequest] = field(default_factory=list)
    act: Callable[[PlayRequest], None] = lambda _request: None

    def run(self, request: PlayRequest, *, emit: Emit, is_canceled: IsCanceled) -> PlayResult:
        del emit
        self.plays.append(request)
        if is_canceled():
            raise Canceled(detail="asked", remedy="none")
        self.act(request)
        return PlayResult(ok=10, changed=3, skipped=1, failed=0, rescued=0, ignored=0)


def break_down(_request: PlayRequest) -> None:
    raise PlaybookFailed(detail="role base: apt", remedy="Look.")


@dataclass
class TwinGateway:
    """Meters like the gateway: an admission and a settlement in the real ledger."""

    ledger: Path
    status: int = 200
    is_metered: bool = True
    secrets: list[str] = field(default_factory=list)
    request_id: str = ""

    def ask(self, secret: str, *, model: str, prompt: str, max_tokens: int, timeout_s: float) -> GatewayAnswer:
        del prompt, max_tokens, timeout_s
        self.secrets.append(secret)
        self.request_id = str(uuid4())
        if self.is_metered:
            self._meter(secret, model)
        return GatewayAnswer(status=self.status, request_id=self.request_id)

    def _meter(self, secret: str, model: str) -> None:
        now = datetime.now(UTC)
        engine = open_ledger(self.ledger)
        key = KeyLookup(engine).find(secret)
        engine.dispose()
        assert key is not None
        writer = LedgerWriter(self.ledger, boot_id="twin", reserve_bytes=0)
        writer.open()
        admission = Admission(
            request_id=self.request_id,
            key_id=key.key_id,
            team=key.team,
            model=model,
            endpoint="chat",
            stream=False,
            admitted_at=now,
        )
        settlement = Settlement(
            request_id=self.request_id, state=UsageState.SETTLED, settled_at=now, first_token_at=now, http_status=200,
            outcome=UsageOutcome.COMPLETED, finish_reason="stop",
            usage=TokenUsage(prompt_tokens=5, completion_tokens=1), usage_source=UsageSource.FINAL,
        )  # fmt: skip
        writer.admit(admission).result(10)
        writer.settle(settlement).result(10)
        writer.close()


class NothingTried:
    def read(self, cursor: str | None) -> EgressReading:
        return EgressReading(counted=(), seen=(), cursor=cursor, missing=())


@dataclass
class TwinNode:
    """The node; `daemon` is one life of the management daemon on it."""

    root: Path

    def __post_init__(self) -> None:
        self.paths = Paths(root=self.root / "node")
        self.medium = self.root / "medium"
        self.probe = TwinProbe()
        self.units = TwinUnits()
        self.engine = TwinEngine()
        self.playbooks = TwinPlaybooks()
        self.gateway = TwinGateway(self.paths.ledger)
        self.boot = TwinBoot()
        self.scanner: SiteScanner | None = None
        self.burn_in: BurnIn | None = None
        self.load: LoadMeter | None = None
        self.accepts_changes = False
        self.keyring = Keyring.create(self.root / "keys")
        write_bundle(self.medium, self.keyring)
        root_json = (self.root / "keys/1.root.json").read_bytes()
        self.paths.trust.parent.mkdir(parents=True)
        TrustStore(self.paths.trust).anchor(root_json, self.keyring.fingerprint)
        for folder in (self.paths.store, self.paths.slots, self.paths.ledger.parent):
            folder.mkdir()

    def newer_medium(self) -> Path:
        medium = self.root / "medium-2"
        write_bundle(medium, self.keyring, release=blank_release(epoch=2, version="26.12.0"))
        return medium

    @contextmanager
    def daemon(self) -> Iterator[Management]:
        world = World(
            probe=self.probe,
            services=self.units,
            engine=self.engine,
            runner=self.playbooks,
            gateway=self.gateway,
            ledger_owner=lambda: (os.getuid(), os.getgid()),
            simulated=("gpus",),
            boot=self.boot,
            egress=NothingTried(),
            scanner=self.scanner,
            burn_in=self.burn_in,
            load=self.load,
        )
        settings = Settings(node_name="llm01", paths=self.paths, accepts_changes=self.accepts_changes)
        with management_of(settings, world) as management:
            yield management
            management.operations.begin_stop()
            assert management.operations.join(10)
