"""The site's directory (LDAP version 3, RFC 4511; Active Directory) asked about a person's password.

An account of the node's own finds the person's entry; then the password is tried by a bind with
that entry's name. A name is escaped before it gets into a filter (RFC 4515, section 3), an empty
password is never sent (RFC 4513, section 5.1.2: the directory would take it for nobody, and say
yes), referrals are not followed, and there is no connection without TLS.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

with warnings.catch_warnings():  # ldap3 uses names of pyasn1 that have newer ones
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.utils.conv import escape_filter_chars

from appliance.domain.errors import SignInRefused, SignInUnavailable
from appliance.domain.sign_in import MOST_GROUPS, LdapSettings, Person, SignInMethod

_TIMEOUT_S = 5
_LONGEST_ACCOUNT = 128
_LONGEST_PASSWORD = 1_024
_NOBODY = "cn=nobody-of-this-name"


def _nothing(_: str) -> None: ...


class _Tls(ldap3.Tls):  # type: ignore[misc]  # ldap3 has no types
    """ldap3's TLS as Python does it: its own compares names with a function that Python 3.12 has no more."""

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002  ldap3's signature
        """Put TLS around a connection's socket, with the certificate and the server's name checked."""
        context = ssl.create_default_context(cafile=self.ca_certs_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection.socket = context.wrap_socket(
            connection.socket, do_handshake_on_connect=do_handshake, server_hostname=connection.server.host
        )


class Directory:
    """One directory. Every call makes its own connections and ends them."""

    def __init__(self, settings: LdapSettings) -> None:
        self._settings = settings

    def person(self, account: str, password: str, *, before: Callable[[str], None] = _nothing) -> Person:
        """Return who has this password; nothing of it is kept. Raises SignInRefused, SignInUnavailable.

        `before` is told the entry's name before the password is tried, and may raise SignInRefused: a
        directory knows one person by many spellings. Of nobody's entry it is told the account.
        """
        if not 0 < len(account) <= _LONGEST_ACCOUNT or not account.isprintable():
            raise _refused("The account's name is empty, too long or not printable.")
        if not 0 < len(password) <= _LONGEST_PASSWORD or "\0" in password:
            raise _refused("The password is empty or too long.")
        try:
            with self._connected(self._settings.bind_dn, self._own_password()) as own:
                if not own.bind():
                    raise _unavailable(f"the node's own account was refused: {own.result['description']}")
                entry = self._entry(own, account)
                # Also with no entry a bind is tried, so that the time it takes does not tell who exists.
                name = entry["dn"] if entry else f"{_NOBODY},{self._settings.base}"
                before(name.casefold() if entry else account)
                with self._connected(name, password) as theirs:
                    if not theirs.bind() or entry is None:
                        raise _refused("The account or the password is wrong.")
                groups = self._groups(own, entry)
        except LDAPException as error:
            raise _unavailable(f"{self._settings.url}: {type(error).__name__}: {error}") from error
        return Person(method=SignInMethod.LDAP, account=self._account(entry), groups=groups)

    @contextmanager
    def _connected(self, name: str, password: str) -> Iterator[Any]:
        """Give a connection that is closed afterwards, whatever happens: ldap3 leaves some open after an error."""
        connection = self._connection(name, password)
        try:
            yield connection
        finally:
            last = connection.socket
            with suppress(LDAPException, OSError):
                connection.unbind()
            if last is not None:
                last.close()

    def _connection(self, name: str, password: str) -> Any:  # noqa: ANN401  ldap3 has no types
        settings = self._settings
        if not Path(settings.ca_file).is_file():
            raise _unavailable(f"there is no {settings.ca_file}")
        tls = _Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.ca_file)
        server = ldap3.Server(
            settings.host, port=settings.port, use_ssl=True, tls=tls, get_info=ldap3.NONE, connect_timeout=_TIMEOUT_S
        )
        return ldap3.Connection(
            server,
            user=name,
            password=password,
            authentication=ldap3.SIMPLE,
            auto_referrals=False,
            read_only=True,
            receive_timeout=_TIMEOUT_S,
        )

    def _own_password(self) -> str:
        path = Path(self._settings.bind_password_file)
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _unavailable(f"{path} cannot be read: {error}") from error

    def _entry(self, own: Any, account: str) -> dict[str, Any] | None:  # noqa: ANN401  ldap3 has no types
        """Return the one entry of an account; two are as good as none."""
        wanted = self._settings.user_filter.replace("{}", escape_filter_chars(account))
        attributes = [self._settings.account_attribute, self._settings.group_attribute]
        found = self._search(own, wanted, attributes, most=2)
        return found[0] if len(found) == 1 else None

    def _account(self, entry: dict[str, Any]) -> str:
        """Return the account's name as the directory writes it, not as it was typed."""
        values = _values(entry, self._settings.account_attribute)
        if not values:
            raise _unavailable(f"{entry['dn']} has no {self._settings.account_attribute} that the node may read")
        return values[0].casefold()

    def _groups(self, own: Any, entry: dict[str, Any]) -> tuple[str, ...]:  # noqa: ANN401  ldap3 has no types
        groups = _values(entry, self._settings.group_attribute)
        if self._settings.group_filter is not None:
            wanted = self._settings.group_filter.replace("{}", escape_filter_chars(entry["dn"]))
            groups += [str(each["dn"]) for each in self._search(own, wanted, [], most=MOST_GROUPS)]
        return tuple(dict.fromkeys(groups))[:MOST_GROUPS]

    def _search(
        self,
        own: Any,  # noqa: ANN401  ldap3 has no types
        wanted: str,
        attributes: list[str],
        *,
        most: int,
    ) -> list[dict[str, Any]]:
        own.search(
            self._settings.base,
            wanted,
            search_scope=ldap3.SUBTREE,
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=attributes or [ldap3.NO_ATTRIBUTES],
            size_limit=most,
            time_limit=_TIMEOUT_S,
        )
        if own.result["description"] not in {"success", "sizeLimitExceeded", "noSuchObject"}:
            raise _unavailable(f"the search was refused: {own.result['description']}")
        return [each for each in own.response or [] if each["type"] == "searchResEntry"]


def _values(entry: dict[str, Any], attribute: str) -> list[str]:
    """Return an attribute's values; names of attributes have no case (RFC 4512, section 2.5)."""
    for name, values in entry["attributes"].items():
        if name.casefold() == attribute.casefold():
            return [str(value) for value in (values if isinstance(values, list) else [values])]
    return []


def _refused(detail: str) -> SignInRefused:
    return SignInRefused(detail=detail, remedy="Check both and try again; five wrong tries lock for 15 minutes.")


def _unavailable(detail: str) -> SignInUnavailable:
    return SignInUnavailable(
        detail=f"The directory cannot be asked: {detail}.",
        remedy="Check the directory, its certificate and [ldap] in sign-in.toml; tell the node's administrator.",
    )
