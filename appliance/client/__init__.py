"""The management API as Python values: what CLI and console call."""

from appliance.client.management import DEFAULT_SOCKET, SOCKET_VARIABLE, ApplianceClient, socket_path
from appliance.client.problems import error_from_problem, error_from_view

__all__ = [
    "DEFAULT_SOCKET",
    "SOCKET_VARIABLE",
    "ApplianceClient",
    "error_from_problem",
    "error_from_view",
    "socket_path",
]
