"""API keys: made and revoked, each act twice in the audit log, as begun and as ended.

The first entry is durable before anything changes, so that no key can exist that the log does not
know of. The secret is in neither: it leaves once, to the caller.
"""

from __future__ import annotations

from typing import Final

from appliance.domain.errors import LeewardError, RequestInvalid
from appliance.domain.operation import Actor
from appliance.domain.usage import ApiKey
from appliance.ports import AuditLog, Clock, KeyRegister

NAME_CHARACTERS: Final = 64


class Keys:
    """Creates, revokes and lists API keys."""

    def __init__(self, *, register: KeyRegister, audit: AuditLog, clock: Clock) -> None:
        self._register = register
        self._audit = audit
        self._clock = clock

    def create(self, *, name: str, team: str, actor: Actor) -> tuple[ApiKey, str]:
        """Make a key; returns it with its secret, which is shown this once.

        Raises RequestInvalid for a name or a team that is empty, too long or not printable.
        """
        name, team = _checked("name", name), _checked("team", team)
        details = {"name": name, "team": team}
        self._record(actor, "key.create", object_=name, outcome="begun", details=details)
        try:
            key, secret = self._register.create(name=name, team=team, at=self._clock.now())
        except LeewardError as error:
            self._record(actor, "key.create", object_=name, outcome="failed", details={**details, "code": error.code})
            raise
        self._record(actor, "key.create", object_=key.key_id, outcome="succeeded", details=details)
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


def _checked(what: str, value: str) -> str:
    text = value.strip()
    if not text or len(text) > NAME_CHARACTERS or not text.isprintable():
        raise RequestInvalid(
            detail=f"the {what} is empty, longer than {NAME_CHARACTERS} characters or not printable",
            remedy=f"Give a {what} of 1 to {NAME_CHARACTERS} printable characters.",
        )
    return text
