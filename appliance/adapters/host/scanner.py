"""The site's own scanner, as `leeward.toml` names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.ports import IsCanceled
from bundles.media.scan import ScanVerdict, scan


@dataclass(frozen=True, slots=True)
class SiteScanner:
    """Runs the configured command; `bundles.media.scan` says how its exit status is read."""

    command: tuple[str, ...]

    def scan(self, volume: Path, *, is_canceled: IsCanceled) -> ScanVerdict:
        return scan(volume, self.command, is_canceled=is_canceled)
