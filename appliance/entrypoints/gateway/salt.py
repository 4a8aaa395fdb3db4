"""Each team's part of the engine's prefix cache."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from functools import lru_cache


class CacheSalt:
    """Makes one salt a team, so that no team can guess another's prompts by timing.

    `of(team)` is 43 characters of base64url. The salts are new at every start: no file to guard,
    one cold cache.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self.of = lru_cache(maxsize=4_096)(self._make)

    def _make(self, team: str) -> str:
        return urlsafe_b64encode(hmac.digest(self._key, team.encode(), "sha256")).rstrip(b"=").decode()
