"""The publisher's key for package repositories."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bundles.sources.commands import run_bytes


@dataclass(frozen=True, slots=True)
class RepositoryKey:
    """The publisher's key for package repositories: Ed25519, made once, kept as a file in `folder`.

    gpg runs in a short-lived home of its own, so that neither a person's keyring nor a long path
    (an agent's socket name is limited to 107 bytes) matters.
    """

    folder: Path

    def sign(self, content: bytes) -> bytes:
        """Return `content` clear-signed, as apt's `InRelease`. The same content is signed once and then kept."""
        return self._signed(content, ".InRelease", "--clearsign")

    def detached(self, content: bytes) -> bytes:
        """Return the armored signature of `content` alone, as dnf's `repomd.xml.asc`; kept likewise."""
        return self._signed(content, ".asc", "--armor", "--detach-sign")

    def public(self, *, armored: bool = False) -> bytes:
        """Return the public key: as apt's `Signed-By` takes it, or armored as dnf's `gpgkey` does."""
        armor = ["--armor"] if armored else []
        return self._gpg(*armor, "--export-options", "export-minimal", "--export")

    def _signed(self, content: bytes, suffix: str, *arguments: str) -> bytes:
        kept = self.folder / "signed" / f"{hashlib.sha256(content).hexdigest()}{suffix}"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            _write_new(kept, self._gpg("--digest-algo", "SHA512", *arguments, content=content))
        return kept.read_bytes()

    @property
    def _secret(self) -> Path:
        return self.folder / "leeward-os.secret.asc"

    def _gpg(self, *arguments: str, content: bytes = b"") -> bytes:
        with tempfile.TemporaryDirectory(prefix="leeward-gpg-") as home:
            common = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
            try:
                if self._secret.exists():
                    run_bytes([*common, "--import", str(self._secret)])
                else:
                    owner = "Leeward operating system packages"
                    run_bytes([*common, "--passphrase", "", "--quick-generate-key", owner, "ed25519", "sign", "never"])
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _write_new(self._secret, run_bytes([*common, "--armor", "--export-secret-keys"]))
                return run_bytes([*common, *arguments], content)
            finally:
                subprocess.run(  # noqa: S603  fixed program
                    ["gpgconf", "--homedir", home, "--kill", "all"],  # noqa: S607  comes with gpg
                    check=False,
                    capture_output=True,
                )


def _write_new(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.replace(path)
