"""Everything that the core needs of the world: the table of contents of side effects.

Each Protocol is named for the need, not for the tool, and says what it raises. Adapters implement
them; `appliance.wiring` chooses which, and is the only place that knows what is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from appliance.domain.acceptance import BurnInResult, Diagnosis, Figure, Passport
from appliance.domain.audit import AuditEntry
from appliance.domain.events import Event, EventRecord
from appliance.domain.health import EngineHealth
from appliance.domain.license import Attestation, LicenseTerms
from appliance.domain.node import DiskTiming, NodeFacts
from appliance.domain.operation import Actor, OperationId, OperationRequest, StepName
from appliance.domain.plan import Plan, PlannedTask
from appliance.domain.quotas import EarlierUse, Quota, QuotaKind, Scope
from appliance.domain.restart import RestartReason
from appliance.domain.routing import EngineStanding
from appliance.domain.tenancy import KeyTerms, Priority, Team
from appliance.domain.usage import ApiKey, UsageRecord
from appliance.domain.usage_report import UsageDimension, UsageSum
from bundles.media.scan import ScanVerdict
from bundles.release import Device, Release

Emit = Callable[[Event], None]
"""Hands an event to the journal; thread-safe."""

IsCanceled = Callable[[], bool]
"""Whether someone asked to stop; cheap enough to ask between two chunks."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the present time in UTC."""
        ...


class NodeProbe(Protocol):
    def facts(self) -> NodeFacts:
        """Observe the node. What cannot be read is `None`; raises nothing for a missing driver."""
        ...


class MediaScanner(Protocol):
    """The site's own scanner of what comes in."""

    def scan(self, volume: Path, *, is_canceled: IsCanceled) -> ScanVerdict:
        """Judge the volume mounted at `volume`.

        Raises ScanRefused where something was found, ScanFailed where there is no verdict, Canceled.
        """
        ...


class DiskMeter(Protocol):
    """Measures disks for well under a second each; what cannot be measured is `None`, and nothing is raised."""

    def state(self, path: str) -> DiskTiming | None:
        """Measure reading, writing and durable writes on the file system of Leeward's own folder `path`."""
        ...

    def medium(self, path: Path) -> DiskTiming | None:
        """Measure reading from the medium mounted at `path`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayRequest:
    """What to run: a playbook with variables against an inventory.

    `playbooks` is the folder that holds `site.yml`; `inventory` is Ansible's YAML structure;
    `tags` are the verbs (precheck, install, configure, verify, remove). `step` is what it is run for.
    """

    playbooks: Path
    playbook: str
    inventory: Mapping[str, object]
    variables: Mapping[str, object]
    tags: tuple[str, ...] = ()
    step: StepName = StepName.PROVISION


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayResult:
    """Ansible's closing statistics, summed over nodes."""

    ok: int
    changed: int
    skipped: int
    failed: int
    rescued: int
    ignored: int


class NodeBoot(Protocol):
    """This boot of the node."""

    def boot_id(self) -> str:
        """Return what no other boot has."""
        ...

    def reasons(self) -> tuple[RestartReason, ...]:
        """Return why this boot must end before the node can serve. Raises StateUnusable."""
        ...


class PlaybookRunner(Protocol):
    def run(self, request: PlayRequest, *, emit: Emit, is_canceled: IsCanceled) -> PlayResult:
        """Run a playbook to its end.

        Raises PlaybookFailed with role, task and message; Canceled when asked to stop.
        """
        ...

    def predict(self, request: PlayRequest, *, emit: Emit, is_canceled: IsCanceled) -> tuple[PlannedTask, ...]:
        """Say what each task would do, and do nothing.

        Raises PlaybookFailed where the playbook would refuse the node; Canceled when asked to stop.
        """
        ...


class PlanStore(Protocol):
    """Plans that were made on this node."""

    def keep(self, plan: Plan) -> None:
        """Store a plan durably under its digest."""
        ...

    def plan(self, digest: str) -> Plan:
        """Return a plan; raises NotFound, or StateUnusable where it is not what its digest says."""
        ...


class ServiceManager(Protocol):
    """systemd's units, as far as the appliance needs them. Raises CommandFailed."""

    def start(self, unit: str) -> None: ...

    def stop(self, unit: str) -> None: ...

    def restart(self, unit: str) -> None: ...

    def active_state(self, unit: str) -> str:
        """Return systemd's ActiveState: active, activating, inactive, failed..."""
        ...

    def started_at(self, unit: str) -> datetime | None: ...

    def automatic_restarts(self, unit: str) -> int:
        """Return how often systemd has restarted the unit by itself since somebody last started it."""
        ...

    def log_tail(self, unit: str, lines: int) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAnswer:
    """What the engine said to the known prompt, and the token counts of that."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Engine(Protocol):
    """The running engine over its socket. Raises EngineNotReady when it does not answer."""

    def health(self) -> EngineHealth:
        """Read liveness and metrics; never raises: what is unknown is `None`."""
        ...

    def answer(self, prompt: str, *, max_tokens: int, timeout_s: float) -> KnownAnswer:
        """Ask one greedy chat question."""
        ...


class BurnIn(Protocol):
    """Loads the node's processors and measures them. Raises BurnInFailed, Canceled; leaves nothing running."""

    def run(
        self, device: Device, *, duration_s: int, ranks: int, watch: Callable[[], None], is_canceled: IsCanceled
    ) -> BurnInResult:
        """Work for about `duration_s`, on all devices at once; `watch` is called several times a second."""
        ...

    def diagnose(self, *, level: int, is_canceled: IsCanceled) -> Diagnosis | None:
        """Run the GPUs' maker's own diagnostics; `None` where the node has none."""
        ...


class LoadMeter(Protocol):
    def measure(self, model: str, *, concurrency: int, is_canceled: IsCanceled) -> tuple[Figure, ...]:
        """Put a fixed load on the running engine, from one client and from `concurrency`.

        Raises EngineNotReady where a question is not answered, Canceled.
        """
        ...


class PassportStore(Protocol):
    """Passports of this node, and the burn-in of an acceptance that goes on. Raises StoreUnusable, StateUnusable."""

    def keep_burn_in(self, operation_id: OperationId, result: BurnInResult) -> None: ...

    def burn_in(self, operation_id: OperationId) -> BurnInResult:
        """Return what was kept; raises NotFound."""
        ...

    def keep(self, passport: Passport) -> None:
        """Store a passport durably; a second time under the same id replaces it."""
        ...

    def passports(self) -> tuple[Passport, ...]: ...


class Journal(Protocol):
    """Operations and their events, in order, durable before the call returns."""

    def create(self, operation_id: OperationId, request: OperationRequest, actor: Actor, at: datetime) -> None: ...

    def append(self, operation_id: OperationId, event: Event, at: datetime) -> EventRecord: ...

    def records(self, operation_id: OperationId, after: int = 0, limit: int = 10_000) -> list[EventRecord]: ...

    def operations(self, limit: int = 100) -> list[tuple[OperationId, OperationRequest, Actor]]:
        """Newest first."""
        ...

    def unfinished(self) -> tuple[OperationId, OperationRequest, Actor] | None:
        """The operation that has neither succeeded, failed nor been canceled."""
        ...


class AuditLog(Protocol):
    """Append-only and hash-linked; each append is durable before it returns."""

    def append(
        self, *, actor: str, action: str, object_: str, outcome: str, details: Mapping[str, str]
    ) -> AuditEntry: ...

    def entries(self, after: int = 0, limit: int = 1_000) -> list[AuditEntry]: ...

    def head(self) -> AuditEntry | None: ...

    def count(self) -> int: ...


class Slots(Protocol):
    """Imported releases on this node: which one is current, and which one waits to become it.

    Raises NotFound for a slot that is not there, StoreUnusable where the disk refuses.
    """

    def current(self) -> str | None:
        """Return the name of the active slot."""
        ...

    def pending(self) -> str | None:
        """Return the slot that was imported last and has not been activated."""
        ...

    def activated_at(self) -> datetime | None:
        """Return when the active slot became it."""
        ...

    def await_activation(self, slot: str) -> None:
        """Remember durably that `slot` shall be activated."""
        ...

    def activate(self, slot: str) -> None:
        """Make `slot` current with one rename; nothing waits any more. Again, it changes nothing."""
        ...

    def path(self, slot: str) -> Path: ...

    def release(self, slot: str) -> Release: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer:
    """What the gateway said: its HTTP status and the id under which the ledger knows the request."""

    status: int
    request_id: str


class GatewayProbe(Protocol):
    def ask(self, secret: str, *, model: str, prompt: str, max_tokens: int, timeout_s: float) -> GatewayAnswer:
        """Ask one question over TLS as a tenant would. Raises GatewayNotReady where nobody answers."""
        ...


class SupportReports(Protocol):
    """Where a defect of Leeward leaves what its makers need to find it."""

    def write(self, error: BaseException, at: datetime) -> str:
        """Store traceback and version, no prompts and no secrets; return where, or why not. Never raises."""
        ...


class LicenseRegister(Protocol):
    """Terms and attestations; append-only."""

    def add_terms(self, terms: LicenseTerms) -> None: ...

    def add_attestation(self, attestation: Attestation) -> None: ...

    def terms(self) -> tuple[LicenseTerms, ...]: ...

    def attestations(self) -> tuple[Attestation, ...]: ...


class KeyRegister(Protocol):
    """API keys; the secret leaves once, at creation."""

    def create(self, *, name: str, team: str, at: datetime, terms: KeyTerms | None = None) -> tuple[ApiKey, str]: ...

    def rotate(self, key_id: str, *, at: datetime, ends_at: datetime) -> tuple[ApiKey, str]:
        """Make a key with the same terms; the old one ends at `ends_at` at the latest. Raises NotFound."""
        ...

    def revoke(self, key_id: str, at: datetime) -> None:
        """Raises NotFound."""
        ...

    def keys(self) -> list[ApiKey]: ...


class TenancyRegister(Protocol):
    """Teams and quotas; what is set is appended, and the newest holds. Raises LedgerUnavailable."""

    def teams(self) -> list[Team]: ...

    def set_team(self, name: str, *, entity: str, priority: Priority, at: datetime) -> Team: ...

    def quotas(self) -> list[Quota]: ...

    def set_quota(self, one: Quota) -> None: ...

    def lift_quota(self, scope: Scope, subject: str, kind: QuotaKind, at: datetime) -> None: ...

    def earlier_use(self, since: datetime, *, except_boot_id: str) -> list[EarlierUse]:
        """Add up what was admitted since a time, but by the gateway of that boot id."""
        ...


class EngineBoard(Protocol):
    """What daemon and gateway tell each other of the engines behind the gateway."""

    def drained(self) -> frozenset[str]:
        """Return which engines get nothing new. Raises StateUnusable."""
        ...

    def set_drained(self, name: str, *, is_drained: bool) -> None:
        """Say so of one, until the node restarts. Raises StateUnusable."""
        ...

    def standings(self) -> tuple[EngineStanding, ...] | None:
        """Return how the gateway saw them in the last seconds; `None` where it has not told."""
        ...


class UsageReader(Protocol):
    """The ledger, read-only."""

    def records(self, after: int = 0, limit: int = 1_000) -> list[tuple[int, UsageRecord]]:
        """Return records with their row number, oldest first."""
        ...

    def counts(self) -> tuple[int, int]:
        """Return (all records, unsettled records)."""
        ...

    def sums(
        self, by: tuple[UsageDimension, ...], *, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[UsageSum, ...]:
        """Sum the records admitted from `since` to before `until`, one sum a group, in the groups' order."""
        ...
