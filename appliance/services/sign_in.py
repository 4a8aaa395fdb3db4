"""What sign-in remembers, and the making of the key.

Memory only, and each memory forgets in the safe direction: after a restart no earlier nonce counts,
and a token that is older than the process is refused, because it may have been used before.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from appliance.domain.errors import SignInRefused
from appliance.domain.operation import Actor
from appliance.domain.sign_in import Person, SignInSettings
from appliance.domain.tenancy import HolderKind, KeyTerms
from appliance.domain.usage import ApiKey
from appliance.ports import AuditLog, Clock
from appliance.services.keys import Keys

MOST_REMEMBERED: Final = 100_000
MOST_KEYS: Final = 20
"""How many keys that are still good one person may have from signing in."""
NONCE_HOLDS: Final = timedelta(minutes=10)
MOST_ATTEMPTS: Final = 5
ATTEMPTS_HOLD: Final = timedelta(minutes=15)
_LATER = "Wait a quarter of an hour and try again."


class SignIns:
    """Makes keys for people whom the site vouched for; each is in the audit log, refused ones too."""

    def __init__(self, *, settings: Callable[[], SignInSettings], keys: Keys, audit: AuditLog, clock: Clock) -> None:
        self._settings = settings
        self._keys = keys
        self._audit = audit
        self._clock = clock

    def grant(self, person: Person, *, team: str | None, uid: int | None) -> tuple[ApiKey, str]:
        """Make a key for a person's team; returns it with its secret. `uid` is the account that brings the person.

        Raises SignInRefused, ConfigInvalid, RequestInvalid for a name that no key can bear.
        """
        settings, method = self._settings(), person.method.value
        actor = Actor(name=f"{method}:{person.account}", uid=uid)
        name = f"sign-in by {method}"
        try:
            chosen = settings.team_of(person, team)
            self._bound(person, name)
        except SignInRefused as refused:
            details = {"code": refused.code, "wanted": team or "", "groups": str(len(person.groups))}
            self._audit.append(
                actor=actor.name, action="sign-in", object_=person.account, outcome="refused", details=details
            )
            raise
        terms = KeyTerms(
            holder=person.account,
            holder_kind=HolderKind.PERSON,
            expires_at=self._clock.now() + timedelta(hours=settings.key_hours),
        )
        return self._keys.create(name=name, team=chosen, actor=actor, terms=terms)

    def _bound(self, person: Person, name: str) -> None:
        """Raise SignInRefused for a person with too many keys of this kind that are still good."""
        now = self._clock.now()
        held = sum(key.holder == person.account and key.name == name and key.is_valid(now) for key in self._keys.list())
        if held >= MOST_KEYS:
            raise SignInRefused(
                detail=f"{person.account} has {held} keys from signing in already.",
                remedy="Use one of these, wait for their end, or ask the node's administrator to revoke some.",
            )


class Once:
    """Takes each thing once, as long as it could be shown again. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._until: dict[str, datetime] = {}

    def take(self, thing: str, *, until: datetime, now: datetime) -> None:
        """Remember a thing until it is worthless anyway. Raises SignInRefused the second time, or with no room left."""
        with self._lock:
            if len(self._until) >= MOST_REMEMBERED:
                self._until = {each: end for each, end in self._until.items() if end > now}
            if len(self._until) >= MOST_REMEMBERED:
                raise SignInRefused(detail="Too many people signed in at once.", remedy=_LATER)
            if self._until.get(thing, now) > now:
                raise SignInRefused(
                    detail="This token was used before.", remedy="Get another one from the site's sign-in."
                )
            self._until[thing] = until


class Nonces:
    """Numbers that are handed out, and come back inside a token once. Thread-safe."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._lock = Lock()
        self._until: dict[str, datetime] = {}

    def issue(self, now: datetime) -> str:
        """Hand one out."""
        nonce = self._make()
        with self._lock:
            if len(self._until) >= MOST_REMEMBERED:  # the oldest goes, so that asking for many blocks nobody for long
                del self._until[next(iter(self._until))]
            self._until[nonce] = now + NONCE_HOLDS
        return nonce

    def redeem(self, nonce: str, now: datetime) -> bool:
        """Whether it was handed out within ten minutes and has not come back before."""
        with self._lock:
            until = self._until.pop(nonce, None)
        return until is not None and now < until


class Attempts:
    """Bounds guessing: five wrong passwords of one account in a quarter of an hour. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failed: dict[str, list[datetime]] = {}

    def begin(self, account: str, now: datetime) -> None:
        """Count a try before it is made, so that many at once are no way around it.

        Raises SignInRefused where an account has failed too often, or there is no room to remember more.
        """
        with self._lock:
            recent = [at for at in self._failed.get(account, ()) if now - at < ATTEMPTS_HOLD]
            if len(self._failed) >= MOST_REMEMBERED:
                self._failed = {each: at for each, at in self._failed.items() if now - at[-1] < ATTEMPTS_HOLD}
            if len(recent) >= MOST_ATTEMPTS or len(self._failed) >= MOST_REMEMBERED:
                raise SignInRefused(detail="Too many wrong passwords.", remedy=_LATER)
            self._failed[account] = [*recent, now]

    def forgive(self, account: str) -> None:
        """Forget the newest one: the directory could not say whether it was wrong."""
        with self._lock:
            rest = self._failed.pop(account, [])[:-1]
            if rest:
                self._failed[account] = rest

    def succeeded(self, account: str) -> None:
        """Forget wrong passwords."""
        with self._lock:
            self._failed.pop(account, None)
