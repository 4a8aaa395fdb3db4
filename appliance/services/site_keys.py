"""The site's own keyring: made at its first use, which the audit log shows, and opened ever after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.domain.operation import Actor
from appliance.ports import AuditLog
from bundles.digest import sha256_hex
from bundles.keys import Keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteKeys:
    """The keys with which this node signs what it says about itself: evidence and custody receipts."""

    folder: Path
    audit: AuditLog

    def fingerprint(self) -> str | None:
        """Return the SHA-256 of the first root, which others get on paper; `None` before the first use."""
        first = self.folder / "1.root.json"
        return sha256_hex(first.read_bytes()) if first.is_file() else None

    def open(self, actor: Actor) -> Keyring:
        """Open the keyring, or make it: private keys 0600, fingerprint in the audit log. Raises KeyringExists."""
        if self.fingerprint() is not None:
            return Keyring.load(self.folder)
        self._record(actor, "begun", {})
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        keyring = Keyring.create_site(self.folder)
        self._record(actor, "succeeded", {"root_fingerprint": keyring.fingerprint})
        return keyring

    def _record(self, actor: Actor, outcome: str, details: dict[str, str]) -> None:
        self.audit.append(
            actor=actor.name, action="evidence-keys.create", object_=str(self.folder), outcome=outcome, details=details
        )
