"""Leeward's console: the management API as screens. Imports `appliance.client` and `appliance.domain` only."""

from __future__ import annotations

from console.launch import main

__all__ = ["main"]
