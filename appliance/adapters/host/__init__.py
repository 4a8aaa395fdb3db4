"""The node's operating system: what it is, and systemd."""

from appliance.adapters.host.certificate import certificate_not_after
from appliance.adapters.host.probe import HostProbe
from appliance.adapters.host.systemd import SystemdServices

__all__ = ["HostProbe", "SystemdServices", "certificate_not_after"]
