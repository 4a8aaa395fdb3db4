"""Typed calls about teams, keys and quotas: a part of `ApplianceClient`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from appliance.client.answers import read_answer
from appliance.domain.quotas import QuotaKind, QuotaUse, Scope
from appliance.domain.sign_in import Person
from appliance.domain.tenancy import HolderKind, Priority, Team
from appliance.domain.usage import ApiKey, IssuedKey


class Asks(Protocol):
    """One request of the management API, whose errors are raised as themselves."""

    async def _ask(self, method: str, path: str, **options: Any) -> Any: ...  # noqa: ANN401  JSON in, JSON out


class TenantCalls:
    """What `ApplianceClient` can ask about tenants. Every method raises what the daemon raised."""

    async def keys(self: Asks) -> tuple[ApiKey, ...]:
        """Return all API keys; no secret is in them."""
        return read_answer(await self._ask("GET", "/v1/keys"), tuple[ApiKey, ...])

    async def create_key(
        self: Asks,
        *,
        team: str,
        name: str,
        holder: str | None = None,
        holder_kind: HolderKind | None = None,
        expires_at: datetime | None = None,
        models: Sequence[str] = (),
        networks: Sequence[str] = (),
    ) -> IssuedKey:
        """Make a key; the secret is in this answer and never again. Raises RequestInvalid."""
        body = {
            "team": team,
            "name": name,
            "holder": holder,
            "holder_kind": None if holder_kind is None else holder_kind.value,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
            "models": list(models),
            "networks": list(networks),
        }
        return read_answer(await self._ask("POST", "/v1/keys", json=body), IssuedKey)

    async def sign_in(self: Asks, person: Person, *, team: str | None = None) -> IssuedKey:
        """Make a key for whom the site vouched for; for the sign-in service. Raises SignInRefused, NotPermitted."""
        body = {
            "method": person.method.value,
            "account": person.account,
            "groups": list(person.groups),
            "team": team,
        }
        return read_answer(await self._ask("POST", "/v1/sign-ins", json=body), IssuedKey)

    async def rotate_key(self: Asks, key_id: str, *, overlap_s: int = 0) -> IssuedKey:
        """Make a key with the same terms; the old one ends after `overlap_s` seconds. Raises NotFound."""
        answer = await self._ask("POST", f"/v1/keys/{quote(key_id, safe='')}/rotate", json={"overlap_s": overlap_s})
        return read_answer(answer, IssuedKey)

    async def revoke_key(self: Asks, key_id: str) -> None:
        """End a key's use; raises NotFound."""
        await self._ask("DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    async def teams(self: Asks) -> tuple[Team, ...]:
        """Return all teams as they stand."""
        return read_answer(await self._ask("GET", "/v1/teams"), tuple[Team, ...])

    async def set_team(self: Asks, name: str, *, entity: str, priority: Priority) -> Team:
        """Make a team, or give it another entity or priority from now on. Raises RequestInvalid."""
        body = {"entity": entity, "priority": priority.value}
        return read_answer(await self._ask("PUT", f"/v1/teams/{quote(name, safe='')}", json=body), Team)

    async def quotas(self: Asks) -> tuple[QuotaUse, ...]:
        """Return the limits that hold and what of them is used."""
        return read_answer(await self._ask("GET", "/v1/quotas"), tuple[QuotaUse, ...])

    async def set_quota(self: Asks, scope: Scope, subject: str, kind: QuotaKind, amount: int | None) -> None:
        """Set a limit from now on, or lift it with no amount. Raises NotFound for a subject that nobody knows."""
        body = {"scope": scope.value, "subject": subject, "kind": kind.value, "amount": amount}
        await self._ask("PUT", "/v1/quotas", json=body)
