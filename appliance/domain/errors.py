"""The error tree of the appliance, sorted by who must act.

LeewardError(code, title, detail, remedy)            bundles.errors
├─ OperatorError        fix and retry                                     exit 2
│  ├─ RecipeInvalid, SourceFailed, MediaMissing, KeyLocked   bundles.errors
│  ├─ ConfigInvalid, PreflightBlocked, OperationConflict, NotFound, PlanOutdated, PlanNotApproved
│  └─ NotPermitted, DaemonUnreachable, RequestInvalid, ChatRefused, QuotaExceeded
│  └─ SignInRefused, ViewNotWritten
├─ TrustError           stop, call the publisher                          exit 4
│  ├─ SignatureRefused, ContentMismatch, RollbackRefused, ...   bundles.errors
│  └─ AuditBroken
├─ LicenseError         call the licence owner                            exit 5
│  └─ TermsNotAccepted, AttestationDue
├─ NodeError            fix the machine                                   exit 3
│  ├─ StoreFull                                      bundles.errors
│  ├─ GpuMissing, Misfit, DriverFailed, PlaybookFailed, CommandFailed, RestartInVain, BurnInFailed
│  └─ LedgerUnavailable, StateUnusable, SignInUnavailable
├─ EngineError          see the runbook                                   exit 6
│  └─ EngineStartFailed, EngineNotReady, EngineLost, GatewayNotReady
├─ Canceled             asked for                    bundles.errors       exit 130
└─ InternalError        call us                                           exit 1
"""

from __future__ import annotations

from appliance.domain.quotas import Remaining
from bundles.errors import Canceled, LeewardError, OperatorError, StoreFull, TrustError


class ConfigInvalid(OperatorError):
    """The site configuration or an answer cannot be used."""

    code = "config-invalid"
    title = "The configuration cannot be used"


class RequestInvalid(OperatorError):
    """A request to the management API breaks its schema."""

    code = "request-invalid"
    title = "The request is not valid"


class ChatRefused(RequestInvalid):
    """A tenant's chat request asks for what the gateway does not forward.

    `http_status` and `param` go into the error object that OpenAI's clients read.
    """

    code = "chat-refused"
    title = "The chat request was refused"

    def __init__(self, *, detail: str, remedy: str, http_status: int = 400, param: str | None = None) -> None:
        super().__init__(detail=detail, remedy=remedy)
        self.http_status = http_status
        self.param = param


class QuotaExceeded(OperatorError):
    """A request would go beyond a quota of its key, team or legal entity; nothing was counted.

    `retry_after_s` says when the window of that quota ends, `remaining` what is left of it.
    """

    code = "quota-exceeded"
    title = "A quota is exhausted"

    def __init__(
        self, *, detail: str, remedy: str, retry_after_s: int = 60, remaining: tuple[Remaining, ...] = ()
    ) -> None:
        super().__init__(detail=detail, remedy=remedy)
        self.retry_after_s = retry_after_s
        self.remaining = remaining


class PreflightBlocked(OperatorError):
    """At least one blocking preflight check failed."""

    code = "preflight-blocked"
    title = "The node is not ready for this release"


class OperationConflict(OperatorError):
    """Another operation has not ended."""

    code = "operation-conflict"
    title = "Another operation is unfinished"


class ViewNotWritten(OperatorError):
    """What the console shows is not in a file."""

    code = "view-not-written"
    title = "The view could not be written to a file"


class PlanOutdated(OperatorError):
    """What a plan was made from has moved."""

    code = "plan-outdated"
    title = "The plan no longer holds"


class PlanNotApproved(OperatorError):
    """The site asks for an approved plan, and there is none."""

    code = "plan-not-approved"
    title = "The plan is not approved"


class NotFound(OperatorError):
    """What was asked for does not exist."""

    code = "not-found"
    title = "There is no such thing"


class NotPermitted(OperatorError):
    """The caller's role does not allow this."""

    code = "not-permitted"
    title = "Your role does not allow this"


class SignInRefused(OperatorError):
    """Who wanted to sign in is not known by the site, or has no team here. No key was made."""

    code = "sign-in-refused"
    title = "The sign-in was refused"


class DaemonUnreachable(OperatorError):
    """The management daemon does not answer on its socket."""

    code = "daemon-unreachable"
    title = "The management daemon does not answer"


class AuditBroken(TrustError):
    """The audit log does not hold together, or does not lead to the head that someone kept."""

    code = "audit-broken"
    title = "The audit log does not hold"


class LicenseError(LeewardError):
    """The licence owner must act."""

    exit_status = 5


class TermsNotAccepted(LicenseError):
    """Nobody has accepted the licence terms of this release."""

    code = "terms-not-accepted"
    title = "The licence terms are not accepted"


class AttestationDue(LicenseError):
    """The monthly statement on revenue is missing or does not allow use."""

    code = "attestation-due"
    title = "The licence attestation is due"


class NodeError(LeewardError):
    """The machine must be fixed."""

    exit_status = 3


class GpuMissing(NodeError):
    """The driver shows fewer GPUs than are needed, or none."""

    code = "gpu-missing"
    title = "GPUs are missing"


class Misfit(NodeError):
    """The release does not fit on this node; the detail shows the arithmetic."""

    code = "misfit"
    title = "The release does not fit on this node"


class DriverFailed(NodeError):
    """The GPU driver could not be loaded or queried."""

    code = "driver-failed"
    title = "The GPU driver failed"


class BurnInFailed(NodeError):
    """The burn-in did not run to its end, or a device computed wrong."""

    code = "burn-in-failed"
    title = "The burn-in failed"


class PlaybookFailed(NodeError):
    """A task of a play failed."""

    code = "playbook-failed"
    title = "A provisioning task failed"


class RestartInVain(NodeError):
    """The node has restarted, and what that was for is as it was."""

    code = "restart-in-vain"
    title = "The restart did not help"


class CommandFailed(NodeError):
    """A system command exited with an error."""

    code = "command-failed"
    title = "A system command failed"


class LedgerUnavailable(NodeError):
    """The ledger is missing, of another version, in use by another gateway, or cannot be written."""

    code = "ledger-unavailable"
    title = "The ledger cannot be used"


class SignInUnavailable(NodeError):
    """The site's OpenID provider or directory did not answer as it should; nobody can sign in now."""

    code = "sign-in-unavailable"
    title = "The site's sign-in does not answer"


class StateUnusable(NodeError):
    """The appliance's own state is damaged, locked by another daemon, or written by a newer appliance."""

    code = "state-unusable"
    title = "The appliance's own state cannot be used"


class EngineError(LeewardError):
    """The engine needs attention; the runbook says what to look at."""

    exit_status = 6


class EngineStartFailed(EngineError):
    """The engine's unit ended before it was ready; the detail holds the log's tail."""

    code = "engine-start-failed"
    title = "The engine did not start"


class EngineNotReady(EngineError):
    """The engine runs but does not give the known answer."""

    code = "engine-not-ready"
    title = "The engine is not ready"


class EngineLost(EngineError):
    """The engine went away during a request."""

    code = "engine-lost"
    title = "The engine was lost"


class GatewayNotReady(EngineError):
    """The gateway does not answer, or answers other than a tenant may expect."""

    code = "gateway-not-ready"
    title = "The gateway is not ready"


class InternalError(LeewardError):
    """Something unforeseen; a defect of Leeward."""

    code = "internal-error"
    title = "Leeward met something it did not foresee"


__all__ = [
    "AttestationDue", "AuditBroken", "BurnInFailed", "Canceled", "ChatRefused", "CommandFailed", "ConfigInvalid",
    "DaemonUnreachable",
    "DriverFailed", "EngineError", "EngineLost", "EngineNotReady", "EngineStartFailed",
    "GatewayNotReady", "GpuMissing", "InternalError", "LedgerUnavailable", "LeewardError",
    "LicenseError", "Misfit", "NodeError", "NotFound", "NotPermitted", "OperationConflict",
    "OperatorError", "PlanNotApproved", "PlanOutdated", "PlaybookFailed", "PreflightBlocked", "QuotaExceeded",
    "RequestInvalid", "RestartInVain", "SignInRefused", "SignInUnavailable",
    "StateUnusable", "StoreFull", "TermsNotAccepted", "TrustError",
]  # fmt: skip
