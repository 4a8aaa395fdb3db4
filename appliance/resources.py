"""Files that travel inside the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def posture_table() -> str:
    """Return the compliance table that ships with the appliance, as TOML."""
    return files("appliance").joinpath("posture.toml").read_text(encoding="utf-8")


def gpu_bands() -> str:
    """Return what known GPUs may be expected to do, in TOML."""
    return files("appliance").joinpath("gpu-bands.toml").read_text(encoding="utf-8")


def xid_table() -> str:
    """Return what the GPU driver's XIDs mean, in TOML."""
    return files("appliance").joinpath("xids.toml").read_text(encoding="utf-8")


def list_prices() -> str:
    """Return the price book that ships with the appliance, in TOML."""
    return files("appliance").joinpath("prices.toml").read_text(encoding="utf-8")


def unit_file(name: str) -> Path:
    """Return the path of a systemd unit that ships with the appliance."""
    return Path(str(files("appliance").joinpath("units", name)))


def monitoring_file(name: str) -> str:
    """Return a file for the site's own monitoring: `grafana-dashboard.json` or `alert-rules.yml`."""
    return files("appliance").joinpath("monitoring", name).read_text(encoding="utf-8")
