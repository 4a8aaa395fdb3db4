"""What the node's package manager and kernel folders say; dpkg's database is read as text.

On systems without dpkg what only it knows is `None`. Sources: dpkg(1), deb822(5), apt.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from appliance.adapters.host.tree import Tree

STATUS: Final = "var/lib/dpkg/status"
_FABRIC_MANAGER: Final = re.compile(r"(nvidia-fabricmanager(-\d+)?|nvidia-fabric-manager)")
_UPSTREAM: Final = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)+)")
_UNATTENDED: Final = re.compile(r'^\s*APT::Periodic::Unattended-Upgrade\s+"(\d+)"', re.MULTILINE)
_SOUND: Final = frozenset({"installed", "not-installed", "config-files"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """The packages that matter to Leeward."""

    broken: tuple[str, ...] | None
    dkms_installed: bool | None
    fabric_manager_version: str | None
    unattended_upgrades: bool | None
    kernel_headers: bool | None
    installed_kernels: tuple[str, ...] | None
    reboot_required: bool | None


def packages(tree: Tree, kernel: str) -> Packages:
    """Read the database; `kernel` is the running kernel's release."""
    status = tree.text(STATUS)
    known = None if status is None else dict(_entries(status))
    return Packages(
        broken=None if known is None else tuple(sorted(n for n, (state, _) in known.items() if state not in _SOUND)),
        dkms_installed=tree.exists("usr/sbin/dkms"),
        fabric_manager_version=_fabric_manager(known or {}),
        unattended_upgrades=_unattended(tree, known),
        kernel_headers=tree.exists(f"lib/modules/{kernel}/build/Makefile"),
        installed_kernels=_kernels(tree),
        reboot_required=tree.exists("run/reboot-required") or (None if known is None else False),
    )


def _entries(status: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (name, (state, version)); the state is the third word of `Status`."""
    for stanza in status.split("\n\n"):
        fields = {}
        for line in stanza.splitlines():
            key, separator, value = line.partition(": ")
            if separator and not key.startswith(" "):
                fields[key] = value.strip()
        if "Package" in fields and "Status" in fields:
            yield fields["Package"], (fields["Status"].rsplit(" ", 1)[-1], fields.get("Version", ""))


def _fabric_manager(known: dict[str, tuple[str, str]]) -> str | None:
    """Return the upstream version of the installed fabric manager, which must equal the driver's."""
    for name, (state, version) in sorted(known.items()):
        found = _UPSTREAM.match(version)
        if state == "installed" and found and _FABRIC_MANAGER.fullmatch(name):
            return found.group(1)
    return None


def _unattended(tree: Tree, known: dict[str, tuple[str, str]] | None) -> bool | None:
    """Return whether apt's daily job upgrades packages; later files of apt.conf.d win."""
    if known is None:
        return None
    if known.get("unattended-upgrades", ("", ""))[0] != "installed":
        return False
    texts = (tree.text(f"etc/apt/apt.conf.d/{name}") or "" for name in tree.names("etc/apt/apt.conf.d") or ())
    said = [int(number) for text in texts for number in _UNATTENDED.findall(text)]
    return bool(said and said[-1])


def _kernels(tree: Tree) -> tuple[str, ...] | None:
    """Return the releases of the kernels that /boot could start."""
    names = tree.names("boot")
    if names is None:
        return None
    return tuple(name.removeprefix("vmlinuz-") for name in names if re.fullmatch(r"vmlinuz-\d\S*", name))
