"""Sign-in: whom the site itself knows gets a key for a working day, for a team of theirs.

The site's OpenID provider or its directory says who somebody is and in which groups; the site's
table says which team each group stands for. Nothing here asks anybody: this is what holds, and what
follows from it. `/etc/leeward/sign-in.toml`:

    key_hours = 8                                   # how long a key lasts, 1 to 24
    [oidc]                                          # absent: no tokens are taken
    issuer = "https://id.site"                      # exactly as in the tokens
    audience = "leeward"                            # the node's client id at the provider
    keys_file = "/etc/leeward/id-keys.json"         # JSON Web Key Set; absent: asked of the issuer
    ca_file = "/etc/leeward/site-ca.pem"            # who vouches for the issuer's certificate
    account_claim = "sub"    groups_claim = "groups"    needs_nonce = false
    [ldap]                                          # absent: no passwords are taken
    url = "ldaps://dc1.site:636"    ca_file = "/etc/leeward/site-ca.pem"
    base = "dc=site"    user_filter = "(uid={})"    # Active Directory: "(sAMAccountName={})"
    bind_dn = "cn=leeward,dc=site"    bind_password_file = "/etc/leeward/ldap-password"
    group_attribute = "memberOf"                    # of the person's entry
    group_filter = "(member={})"                    # or the groups' own entries, by the person's name
    [[teams]]
    group = "cn=llm-research,ou=groups,dc=site"
    team = "research"
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from appliance.domain.errors import ConfigInvalid, SignInRefused
from bundles.codec import CodecError, from_plain

LONGEST_KEY_HOURS = 24
MOST_GROUPS = 1_000
_ATTRIBUTE = re.compile(r"\(([A-Za-z][A-Za-z0-9-]*)=\{\}\)")
_FILE_REMEDY = "Correct the file (docs: sign-in.md); it is read again at each sign-in."


class SignInMethod(StrEnum):
    """Who vouched for a person."""

    OIDC = "oidc"
    LDAP = "ldap"


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """The site's OpenID provider. Raises ValueError for an issuer that is not reached by TLS."""

    issuer: str
    audience: str
    keys_file: str | None = None
    ca_file: str | None = None
    account_claim: str = "sub"
    groups_claim: str = "groups"
    needs_nonce: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"issuer {self.issuer!r} is no https address")
        if not self.audience:
            raise ValueError("audience is empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapSettings:
    """The site's directory. Raises ValueError for a URL without TLS and for a filter without its place."""

    url: str
    ca_file: str
    base: str
    bind_dn: str
    bind_password_file: str
    user_filter: str = "(uid={})"
    group_attribute: str = "memberOf"
    group_filter: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "ldaps" or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"url {self.url!r} is not like ldaps://HOST:636")
        for text in (self.user_filter, self.group_filter):
            if text is not None and text.count("{}") != 1:
                raise ValueError(f"filter {text!r} does not hold {{}} once")
        if not _ATTRIBUTE.search(self.user_filter):
            raise ValueError(f"filter {self.user_filter!r} does not hold an attribute like (uid={{}})")

    @property
    def host(self) -> str:
        """The directory's name, which its certificate must bear."""
        return urlsplit(self.url).hostname or ""

    @property
    def account_attribute(self) -> str:
        """The attribute that holds an account's name, as the filter has it."""
        found = _ATTRIBUTE.search(self.user_filter)
        assert found is not None  # noqa: S101  __post_init__ has looked
        return found[1]

    @property
    def port(self) -> int:
        """The directory's TCP port."""
        return urlsplit(self.url).port or 636


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTeam:
    """Which team a group of the site stands for."""

    group: str
    team: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom the site vouched for. `groups` are names as the site writes them."""

    method: SignInMethod
    account: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInSettings:
    """What the site decided about sign-in."""

    oidc: OidcSettings | None = None
    ldap: LdapSettings | None = None
    teams: tuple[GroupTeam, ...] = ()
    key_hours: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.key_hours <= LONGEST_KEY_HOURS:
            raise ValueError(f"key_hours is {self.key_hours}, not 1 to {LONGEST_KEY_HOURS}")

    def team_of(self, person: Person, wanted: str | None) -> str:
        """Return the team for which a person gets a key. Raises SignInRefused.

        It is the wanted one, or the only one there is.
        """
        groups = {_folded(group) for group in person.groups}
        teams = sorted({each.team for each in self.teams if _folded(each.group) in groups})
        if wanted is None and len(teams) == 1:
            return teams[0]
        if wanted in teams:
            return wanted
        if not teams:
            raise SignInRefused(
                detail=f"No group of {person.account} stands for a team here.",
                remedy="Ask whoever keeps the site's groups, or the node's administrator.",
            )
        raise SignInRefused(
            detail=f"{person.account} belongs to {', '.join(teams)}; {wanted or 'no team'} was asked for.",
            remedy="Say for which of these the key shall be: `team`.",
        )


def sign_in_settings(text: str, *, where: str) -> SignInSettings:
    """Read the file's text; raises ConfigInvalid, which names the first fault."""
    try:
        return from_plain(tomllib.loads(text), SignInSettings)
    except (tomllib.TOMLDecodeError, CodecError) as error:
        raise ConfigInvalid(detail=f"{where}: {error}.", remedy=_FILE_REMEDY) from error


def _folded(group: str) -> str:
    """Write a group's name in one way: case and spaces after commas tell no two groups apart (RFC 4514)."""
    return ",".join(part.strip() for part in group.casefold().split(","))
