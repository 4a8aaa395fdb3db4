"""Teams and keys: who is metered, with which limits; keys are made, replaced and revoked here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content

from appliance.domain.quotas import QuotaKind, Scope
from appliance.domain.tenancy import SITE_ENTITY, HolderKind, Priority
from appliance.domain.usage import ApiKey, IssuedKey
from console.render import tenants
from console.render.frame import Frame
from console.render.listing import Table
from console.render.tenants import Tenants
from console.screens.base import ConsoleScreen
from console.screens.form import Field, FormPage
from console.screens.listing import ListScreen
from console.screens.pages import TextPage

LONGEST_DAYS = 3_650


class TenantsScreen(ListScreen[Tenants]):
    """Each team, its limits, its keys. What changes something asks first."""

    TABBED = "Keys"
    TITLE_WORDS = "Teams and keys"
    LIST_TITLE = "Teams, limits and keys"
    HELP_LINES = (
        "ok in use; WARN ends within 14 days, or 80 % of a limit is used;",
        "FAIL a limit is used up; -- ended.",
        "?? beside concurrency: only the gateway knows what is under way.",
        "A secret is shown once, when its key is made; w does not write it.",
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "create", "New"),
        Binding("x", "revoke", "Revoke"),
        Binding("o", "rotate", "Replace the key by a new one", show=False),
        Binding("u", "limit", "Limit"),
        Binding("t", "team", "Team", show=True),
    ]

    async def read(self) -> Tenants:
        ask = self.console.management
        return Tenants(teams=await ask.teams(), keys=await ask.keys(), quotas=await ask.quotas())

    def above(self, value: Tenants, frame: Frame) -> list[Content]:
        return [Content(tenants.counts(value, frame.now))]

    def table(self, value: Tenants, frame: Frame) -> Table:
        return tenants.table(value, frame)

    def open_line(self, value: Tenants, key: str) -> None:
        found = self._key()
        if found is not None:
            lines = tenants.key_detail(found, value, self.frame())
            self.app.push_screen(TextPage(f"Key {found.name}", lines))
        elif key.startswith("team:"):
            name = key.removeprefix("team:")
            self.app.push_screen(TextPage(f"Team {name}", tenants.team_detail(name, value, self.frame())))

    # What is walked to

    def _key(self) -> ApiKey | None:
        kind, _, name = self.selected.partition(":")
        return self.reading.value.key(name) if self.reading.value is not None and kind == "key" else None

    def _team(self) -> str:
        kind, _, name = self.selected.partition(":")
        if kind == "quota":
            scope, _, rest = name.partition(":")
            return rest.rpartition(":")[0] if scope == Scope.TEAM.value else ""
        key = self._key()
        return name if kind == "team" else key.team if key is not None else ""

    # Acts

    def action_create(self) -> None:
        """Ask for a new key's terms."""
        fields = [
            Field(name="team", label="Team", value=self._team()),
            Field(name="name", label="Name: what the key is for"),
            Field(name="person", label="Person who holds it, or nothing"),
            Field(name="program", label="Program that holds it, or nothing"),
            Field(name="days", label="Ends in how many days; nothing means never"),
        ]
        about = ["The secret is shown once, after the last field."]
        self.app.push_screen(FormPage("NEW KEY", about, fields, self._create))

    async def _create(self, values: Mapping[str, str]) -> str | ConsoleScreen:
        person, program, days = values["person"], values["program"], values["days"]
        if person and program:
            return "A key is held by a person or by a program, not by both."
        if days and not (days.isascii() and days.isdigit() and 1 <= int(days) <= LONGEST_DAYS):
            return f"Days are a whole number from 1 to {LONGEST_DAYS}."
        kind = HolderKind.PERSON if person else HolderKind.PROGRAM if program else None
        issued = await self.console.management.create_key(
            team=values["team"],
            name=values["name"],
            holder=person or program or None,
            holder_kind=kind,
            expires_at=self.console.now() + timedelta(days=int(days)) if days else None,
        )
        return self._secret(issued)

    def action_revoke(self) -> None:
        """Ask for a key's name, then end its use."""
        key = self._key()
        if key is None or not key.is_valid(self.console.now()):
            self.notify("Walk to a key that is in use first.", timeout=4)
            return

        async def revoke(values: Mapping[str, str]) -> str:
            if values["name"] != key.name:
                return f"That is not the key's name, {key.name}; nothing was revoked."
            await self.console.management.revoke_key(key.key_id)
            self.outdate()
            return ""

        about = [f"Key {key.key_id} of team {key.team} stops working within seconds, for good."]
        field = Field(name="name", label=f"Type the key's name, {key.name}, to revoke it")
        self.app.push_screen(FormPage("REVOKE A KEY", about, [field], revoke))

    def action_rotate(self) -> None:
        """Ask for a key's name, then replace it by a new one with the same terms."""
        key = self._key()
        if key is None or not key.is_valid(self.console.now()):
            self.notify("Walk to a key that is in use first.", timeout=4)
            return

        async def rotate(values: Mapping[str, str]) -> str | ConsoleScreen:
            if values["name"] != key.name:
                return f"That is not the key's name, {key.name}; nothing was replaced."
            return self._secret(await self.console.management.rotate_key(key.key_id))

        about = [
            f"Key {key.key_id} stops working at once; the new one has its terms. For an overlap: leeward key rotate."
        ]
        field = Field(name="name", label=f"Type the key's name, {key.name}, to replace it")
        self.app.push_screen(FormPage("REPLACE A KEY", about, [field], rotate))

    def action_limit(self) -> None:
        """Ask for a limit of the team or key that is walked to."""
        key, team = self._key(), self._team()
        scope, subject = (Scope.KEY, key.key_id) if key is not None else (Scope.TEAM, team)
        fields = [
            Field(name="scope", label="Of a key, team or entity", value=scope.value),
            Field(name="subject", label="Its id or name", value=subject),
            Field(name="kind", label="Kind", value=QuotaKind.TOKENS_PER_DAY.value),
            Field(name="amount", label="Amount: a whole number, or none to lift the limit"),
        ]
        about = ["Kinds: " + ", ".join(kind.value for kind in QuotaKind)]
        self.app.push_screen(FormPage("SET A LIMIT", about, fields, self._set_limit))

    async def _set_limit(self, values: Mapping[str, str]) -> str:
        amount = values["amount"].replace(",", "").replace("_", "")
        if values["scope"] not in list(Scope):
            return f"A limit is of one of {', '.join(Scope)}."
        if values["kind"] not in list(QuotaKind):
            return f"{values['kind'] or 'Nothing'} is no kind of limit."
        if amount != "none" and not (amount.isascii() and amount.isdigit()):
            return "The amount is a whole number, or none."
        await self.console.management.set_quota(
            Scope(values["scope"]),
            values["subject"],
            QuotaKind(values["kind"]),
            None if amount == "none" else int(amount),
        )
        self.outdate()
        return ""

    def action_team(self) -> None:
        """Ask for a team's legal entity and priority."""
        value = self.reading.value
        name = self._team()
        known = next((team for team in value.teams if team.team == name), None) if value is not None else None
        fields = [
            Field(name="name", label="Team", value=name),
            Field(name="entity", label="Legal entity", value=known.entity if known else SITE_ENTITY),
            Field(
                name="priority",
                label=f"Priority: {', '.join(Priority)}",
                value=(known.priority if known else Priority.STANDARD).value,
            ),
        ]
        self.app.push_screen(FormPage("SET A TEAM", ["It holds from now on."], fields, self._set_team))

    async def _set_team(self, values: Mapping[str, str]) -> str:
        if values["priority"] not in list(Priority):
            return f"The priority is one of {', '.join(Priority)}."
        priority = Priority(values["priority"])
        await self.console.management.set_team(values["name"], entity=values["entity"], priority=priority)
        self.outdate()
        return ""

    def _secret(self, issued: IssuedKey) -> ConsoleScreen:
        self.outdate()
        return TextPage("The secret, this once", tenants.secret_lines(issued), secret=True)
