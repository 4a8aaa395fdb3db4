"""What can go wrong with the lab itself (never with the product that runs in it)."""

from __future__ import annotations

from bundles.errors import LeewardError


class LabUnavailable(LeewardError):
    """This machine cannot hold lab nodes; nothing was changed on it."""

    code = "lab-unavailable"
    title = "The lab cannot run here"
    exit_status = 2


class LabFailed(LeewardError):
    """The lab could not do what it was asked."""

    code = "lab-failed"
    title = "The lab did not do as asked"
