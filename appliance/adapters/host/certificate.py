"""How long the gateway's certificate is valid."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509


def certificate_not_after(path: Path) -> datetime | None:
    """Return when the first certificate of a PEM file ends (UTC); `None` where it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
