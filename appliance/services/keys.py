"""API keys: made and revoked, each act twice in the audit log, as begun and as ended.

The first entry is durable before anything changes, so that no key can exist that the log does not
know of. The secret is in neither: it leaves once, to the caller.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from appliance.domain.errors import LeewardError, RequestInvalid
from appliance.domain.operation import Actor
from appliance.domain.tenancy import KeyTerms
from appliance.domain.usage import ApiKey
from appliance.ports import AuditLog, Clock, KeyRegister

NAME_CHARACTERS: Final = 64


class Keys:
    """Creates, revokes and lists API keys."""

    def __init__(self, *, register: KeyRegister, audit: AuditLog, clock: Clock) -> None:
        self._register = register
        self._audit = audit
        self._clock = clock

    def create(self, *, name: str, team: str, actor: Actor, terms: KeyTerms | None = None) -> tuple[ApiKey, str]:
        """Make a key; returns it with its secret, which is shown this once.

        Raises RequestInvalid for a name, a team or a holder that is empty, too long or not printable,
        and for an end that is past.
        """
        name, team, terms = checked("name", name), checked("team", team), terms or KeyTerms()
        now = self._clock.now()
        if terms.holder is not None:
            terms = replace(terms, holder=checked("holder", terms.holder))
        if any(not model.strip() or not model.isprintable() for model in terms.models):
            raise RequestInvalid(detail="a model has no name", remedy="`leeward status` names what is served.")
        if terms.expires_at is not None and terms.expires_at <= now:
            raise RequestInvalid(detail=f"{terms.expires_at} is past", remedy="Give a time that lies ahead.")
        details = {"name": name, "team": team} | _told(terms)
        self._record(actor, "key.create", object_=name, outcome="begun", details=details)
        try:
            key, secret = self._register.create(name=name, team=team, at=now, terms=terms)
        except LeewardError as error:
            self._record(actor, "key.create", object_=name, outcome="failed", details={**details, "code": error.code})
            raise
        self._record(actor, "key.create", object_=key.key_id, outcome="succeeded", details=details)
        return key, secret

    def rotate(self, key_id: str, *, overlap: timedelta, actor: Actor) -> tuple[ApiKey, str]:
        """Replace a key by one with the same terms; the old one ends after `overlap`. Raises NotFound."""
        now = self._clock.now()
        details = {"overlap_s": str(int(overlap.total_seconds()))}
        self._record(actor, "key.rotate", object_=key_id, outcome="begun", details=details)
        try:
            key, secret = self._register.rotate(key_id, at=now, ends_at=now + overlap)
        except LeewardError as error:
            self._record(actor, "key.rotate", object_=key_id, outcome="failed", details={"code": error.code})
            raise
        self._record(
            actor, "key.rotate", object_=key_id, outcome="succeeded", details=details | {"successor": key.key_id}
        )
        return key, secret

    def revoke(self, key_id: str, actor: Actor) -> None:
        """Revoke a key; raises NotFound."""
        self._record(actor, "key.revoke", object_=key_id, outcome="begun", details={})
        try:
            self._register.revoke(key_id, self._clock.now())
        except LeewardError as error:
            self._record(actor, "key.revoke", object_=key_id, outcome="failed", details={"code": error.code})
            raise
        self._record(actor, "key.revoke", object_=key_id, outcome="succeeded", details={})

    def list(self) -> list[ApiKey]:
        """Return all keys, revoked ones too."""
        return self._register.keys()

    def _record(self, actor: Actor, action: str, *, object_: str, outcome: str, details: dict[str, str]) -> None:
        self._audit.append(actor=actor.name, action=action, object_=object_, outcome=outcome, details=details)


def _told(terms: KeyTerms) -> dict[str, str]:
    """Say for the audit log what a key is good for, as far as that is limited."""
    told = {
        "holder": terms.holder and f"{terms.holder_kind} {terms.holder}",
        "expires_at": terms.expires_at and terms.expires_at.isoformat(),
        "models": " ".join(terms.models),
        "networks": " ".join(terms.networks),
    }
    return {name: value for name, value in told.items() if value}


def checked(what: str, value: str) -> str:
    """Return a name without space around it; raises RequestInvalid if it is none."""
    text = value.strip()
    if not text or len(text) > NAME_CHARACTERS or not text.isprintable():
        raise RequestInvalid(
            detail=f"the {what} is empty, longer than {NAME_CHARACTERS} characters or not printable",
            remedy=f"Give a {what} of 1 to {NAME_CHARACTERS} printable characters.",
        )
    return text
