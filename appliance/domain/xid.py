"""XIDs: what the GPU driver writes to the kernel's log when a GPU has met an error. Pure.

    line of the log  ->  XidSeen  ->  alert, with what it means and what to do, from a table in the package

NVSwitches write SXIDs the same way; only fatal ones ask for a person. Format: NVIDIA, "Xid Errors" and the
Fabric Manager user guide, chapter on SXid errors.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.domain.health import Alert, EngineHealth, Severity
from appliance.domain.node import Gpu

_XID: Final = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<pci>[0-9A-Fa-f:]+)(?:\.\d)?\): (?P<code>\d{1,5}), *(?P<text>.*)")
_SXID: Final = re.compile(
    r"nvidia-nvswitch\d+: SXid \(PCI:(?P<pci>[0-9A-Fa-f:]+)(?:\.\d)?\): (?P<code>\d{1,5}), (?P<text>Fatal.*)"
)
_MOST_CHARACTERS: Final = 200
_UNKNOWN_ACTION: Final = "support"
_RESTART: Final = "restart-engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class XidSeen:
    """One line of the kernel's log; `pci` is domain, bus and device as the kernel writes them."""

    pci: str
    code: int
    text: str
    at: datetime
    is_switch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """What a number means, and what is to be done."""

    meaning: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class XidAction:
    """What is to be done, and how bad it is while it is not done."""

    severity: Severity
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class XidTable:
    """The table that ships with the appliance."""

    xids: Mapping[int, Xid]
    actions: Mapping[str, XidAction]

    @classmethod
    def from_toml(cls, text: str) -> XidTable:
        """Read the table; raises KeyError for an action that it does not define."""
        read = tomllib.loads(text)
        actions = {
            name: XidAction(severity=Severity(each["severity"]), advice=each["advice"])
            for name, each in read["actions"].items()
        }
        xids = {int(code): Xid(meaning=each["meaning"], action=each["action"]) for code, each in read["xids"].items()}
        for xid in xids.values():
            actions[xid.action]
        return cls(xids=xids, actions=actions)

    def of(self, code: int) -> tuple[str, str]:
        """Return meaning and action of a number, known or not."""
        xid = self.xids.get(code)
        return ("not in this appliance's table", _UNKNOWN_ACTION) if xid is None else (xid.meaning, xid.action)


def xid_in(line: str, at: datetime) -> XidSeen | None:
    """Return the XID, or the fatal SXID, that a line of the kernel's log tells; `None` for any other line."""
    for pattern in (_XID, _SXID):
        if found := pattern.search(line):
            return XidSeen(
                pci=found["pci"].lower(),
                code=int(found["code"]),
                text=found["text"].strip()[:_MOST_CHARACTERS],
                at=at,
                is_switch=pattern is _SXID,
            )
    return None


def newest(seen: Iterable[XidSeen]) -> tuple[XidSeen, ...]:
    """Return the last of each number on each device, in order of time."""
    last = {(each.pci, each.is_switch, each.code): each for each in sorted(seen, key=lambda each: each.at)}
    return tuple(sorted(last.values(), key=lambda each: each.at))


def xid_alerts(
    seen: Iterable[XidSeen], table: XidTable, *, gpus: tuple[Gpu, ...], engine: EngineHealth | None
) -> Iterator[Alert]:
    """Give what a person has to do for each XID of this boot.

    An engine that was started since has got what `restart-engine` asks for. Where it also gives the
    known answer, the worst is over: what remains is a warning until the node restarts.
    """
    for each in newest(seen):
        is_restarted = engine is not None and engine.started_at is not None and engine.started_at > each.at
        if each.is_switch:
            yield _alert(each, "a fatal NVSwitch error", table.actions["nvlink"], _switch(each), is_over=False)
            continue
        meaning, name = table.of(each.code)
        action = table.actions[name]
        if action.severity is Severity.OK or (name == _RESTART and is_restarted):
            continue
        is_over = is_restarted and engine is not None and engine.ready is True
        yield _alert(each, meaning, action, _gpu(each, gpus), is_over=is_over)


def _alert(seen: XidSeen, meaning: str, action: XidAction, device: str, *, is_over: bool) -> Alert:
    kind = "SXID" if seen.is_switch else "XID"
    since = " The engine was started since and gives the known answer." if is_over else ""
    return Alert(
        code="gpu-xid",
        severity=Severity.WARN if is_over else action.severity,
        title=f"{device} reported {kind} {seen.code}: {meaning}",
        advice=f"At {seen.at:%Y-%m-%d %H:%M:%S} UTC: {seen.text}.{since} {action.advice}",
        since=None,
    )


def _gpu(seen: XidSeen, gpus: tuple[Gpu, ...]) -> str:
    """Name the GPU by its number; one that has fallen off the bus has none any more."""
    for gpu in gpus:
        if gpu.pci_bus_id is not None and _place(gpu.pci_bus_id) == _place(seen.pci):
            return f"GPU {gpu.index}"
    return f"The GPU at {seen.pci}"


def _switch(seen: XidSeen) -> str:
    return f"The NVSwitch at {seen.pci}"


def _place(pci: str) -> tuple[int, ...]:
    """Return domain, bus and device as numbers: NVML writes `00000000:3B:00.0`, the kernel `0000:3b:00`."""
    return tuple(int(part, 16) for part in pci.partition(".")[0].split(":"))
