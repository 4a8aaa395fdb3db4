"""Operations: the long actions of the management daemon, and the steps they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from appliance.domain.errors import RequestInvalid
from appliance.domain.preflight import Judgement

OperationId = NewType("OperationId", str)
"""A UUIDv7-like, sortable identifier in text form."""


class OperationKind(StrEnum):
    """What an operation does."""

    INSTALL = "install"
    IMPORT = "import"
    PROVISION = "provision"
    EXPORT_EVIDENCE = "export-evidence"
    PLAN = "plan"
    UNINSTALL = "uninstall"
    ACCEPTANCE = "acceptance"


class OperationState(StrEnum):
    """The life of an operation.

    RUNNING ──► SUCCEEDED
       │  ▲
       │  └─ resumed after a kill or a reboot (an event, not a state)
       ├────► FAILED
       └────► CANCELED
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self is not OperationState.RUNNING


class StepState(StrEnum):
    """PENDING ──► RUNNING ──► SUCCEEDED | FAILED | CANCELED; a resumed step runs again."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class StepName(StrEnum):
    """A visible unit of an operation. Each can be run again without harm."""

    PREFLIGHT = "preflight"
    IMPORT = "import"
    LICENSE = "license"
    PROVISION = "provision"
    REBOOT = "reboot"
    START = "start"
    SMOKE_TEST = "smoke-test"
    COLLECT = "collect"
    SIGN = "sign"
    PLAN = "plan"
    REMOVE = "remove"
    BURN_IN = "burn-in"
    MEASURE = "measure"


STEPS: dict[OperationKind, tuple[StepName, ...]] = {
    OperationKind.INSTALL: (
        StepName.PREFLIGHT,
        StepName.IMPORT,
        StepName.LICENSE,
        StepName.PROVISION,
        StepName.REBOOT,
        StepName.START,
        StepName.SMOKE_TEST,
    ),
    OperationKind.IMPORT: (StepName.PREFLIGHT, StepName.IMPORT),
    OperationKind.PROVISION: (
        StepName.PREFLIGHT,
        StepName.PROVISION,
        StepName.REBOOT,
        StepName.START,
        StepName.SMOKE_TEST,
    ),
    OperationKind.EXPORT_EVIDENCE: (StepName.COLLECT, StepName.SIGN),
    OperationKind.PLAN: (StepName.PLAN,),
    OperationKind.UNINSTALL: (StepName.REMOVE,),
    OperationKind.ACCEPTANCE: (StepName.BURN_IN, StepName.START, StepName.MEASURE),
}

ACCEPTANCE = "acceptance"
"""Whether a change of the node is measured before it ends: `true` or `false`; absent, the site's setting holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: a person at a Unix account, an API key, or the appliance itself."""

    name: str
    uid: int | None = None

    @classmethod
    def appliance(cls) -> Actor:
        """The appliance acting on its own account."""
        return cls(name="appliance")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRequest:
    """What was asked for; `parameters` are plain strings and hold no secret."""

    kind: OperationKind
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterNames:
    """Which parameters a kind of operation takes; `paths` are absolute paths on the node."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


JUDGEMENT = ("strict", "waivers")
"""How the findings of the step `preflight` are judged; `appliance.domain.preflight` says what they hold."""

MEASUREMENT = ("duration_s", "diagnostics_level", "concurrency")
"""How an acceptance measures; `appliance.domain.acceptance` says what they hold."""

CHANGE = ("plan", ACCEPTANCE, *MEASUREMENT, *JUDGEMENT)

VOLUMES = "volumes"
"""Further folders with volumes of the same media set, one absolute path a line."""

PARAMETERS: dict[OperationKind, ParameterNames] = {
    OperationKind.INSTALL: ParameterNames(
        required=("medium",), optional=(VOLUMES, "attestation", *CHANGE), paths=("medium",)
    ),
    OperationKind.IMPORT: ParameterNames(required=("medium",), optional=(VOLUMES, *JUDGEMENT), paths=("medium",)),
    OperationKind.PROVISION: ParameterNames(optional=CHANGE),
    OperationKind.EXPORT_EVIDENCE: ParameterNames(required=("destination",), paths=("destination",)),
    OperationKind.PLAN: ParameterNames(),
    OperationKind.UNINSTALL: ParameterNames(required=("node",), optional=("packages", "drivers", "records")),
    OperationKind.ACCEPTANCE: ParameterNames(optional=MEASUREMENT),
}


def steps_of(request: OperationRequest) -> tuple[StepName, ...]:
    """Return the steps of an operation; a measured change burns the processors in before the engine is loaded."""
    steps = STEPS[request.kind]
    if request.parameters.get(ACCEPTANCE) != "true":
        return steps
    start = steps.index(StepName.START)
    return (*steps[:start], StepName.BURN_IN, *steps[start:], StepName.MEASURE)


def check_parameters(request: OperationRequest) -> None:
    """Raise RequestInvalid, which names every missing, unknown or relative parameter."""
    names = PARAMETERS[request.kind]
    given = request.parameters
    wrong = [f"{name} is missing" for name in names.required if not given.get(name)]
    wrong += [f"{name} is unknown" for name in sorted(set(given) - {*names.required, *names.optional})]
    wrong += [f"{name} is not an absolute path" for name in names.paths if given.get(name, "/")[:1] != "/"]
    wrong += [f"{VOLUMES} names {line!a}, which is not an absolute path" for line in _volumes(given) if line[:1] != "/"]
    if given.get(ACCEPTANCE, "true") not in {"true", "false"}:
        wrong.append(f"{ACCEPTANCE} is {given[ACCEPTANCE]!a}, not true or false")
    if wrong:
        raise RequestInvalid(
            detail=f"The operation {request.kind} was asked for, but {', '.join(wrong)}.",
            remedy=f"Give {' and '.join(names.required) or 'no parameters'}, then ask again.",
        )
    Judgement.of(given)


def _volumes(given: dict[str, str]) -> list[str]:
    return given.get(VOLUMES, "").splitlines()
