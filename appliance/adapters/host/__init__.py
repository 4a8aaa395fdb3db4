"""The node's operating system: what it is, and systemd."""

from appliance.adapters.host.certificate import certificate_not_after
from appliance.adapters.host.disk_timing import DiskTimer
from appliance.adapters.host.identity import redaction_key
from appliance.adapters.host.probe import HostProbe
from appliance.adapters.host.systemd import SystemdServices

__all__ = ["DiskTimer", "HostProbe", "SystemdServices", "certificate_not_after", "redaction_key"]
