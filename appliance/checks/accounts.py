"""Two accounts with one number are one account to the kernel: the other could read the ledger or the weights."""

from __future__ import annotations

from typing import Final

from appliance.checks.check import failed, passed, warned
from appliance.domain.node import NodeFacts
from appliance.domain.preflight import Finding
from bundles.release import Release

ID: Final = "accounts"
OURS: Final = frozenset({"leeward-engine", "leeward-gateway"})
_NO_LOGIN: Final = ("/nologin", "/false")


def evaluate(facts: NodeFacts, release: Release | None) -> Finding:  # noqa: ARG001  the same for every release
    """Look for shared numbers, and for login programs of accounts that nobody logs in to."""
    required = "leeward-engine and leeward-gateway absent, or alone with their numbers and without a login"
    if facts.accounts is None:
        return warned(ID, observed="unknown", required=required, remedy="Read `getent passwd | grep leeward`.")
    ours = {account.uid: account for account in facts.accounts if account.name in OURS}
    others = [a for a in facts.accounts if a is not ours.get(a.uid) and a.uid in ours]
    if others:
        return failed(
            ID,
            observed=", ".join(f"{a.name} has the number of {ours[a.uid].name} ({a.uid})" for a in others),
            required=required,
            remedy="Give the other account a number of its own (`usermod -u`), and its files to it (`find / -uid`).",
        )
    open_ones = [account.name for account in ours.values() if not account.shell.endswith(_NO_LOGIN)]
    if open_ones:
        return warned(
            ID,
            observed="can log in: " + ", ".join(sorted(open_ones)),
            required=required,
            remedy="Run `usermod -s /usr/sbin/nologin` for each.",
        )
    return passed(ID, observed=", ".join(sorted(a.name for a in ours.values())) or "absent", required=required)
