"""What a node has that an installation may change, by name: for a look before and after."""

from __future__ import annotations

from tests.lab import Node

SEEN: dict[str, str] = {
    "packages": "dpkg-query --show --showformat='${db:Status-Status} ${Package}\\n'",
    "held packages": "apt-mark showhold",
    "accounts": "getent passwd | cut -d: -f1,3,6,7",
    "groups": "getent group",
    "enabled units": "systemctl list-unit-files --no-legend --state=enabled",
    "unit files": "ls /etc/systemd/system",
    "running services": "systemctl list-units --no-legend --plain --type=service --state=running | cut -d' ' -f1",
    "nftables": "nft list tables 2>/dev/null || true",
    "routing": "ip rule show; ip route show table all",
    "network namespaces": "ip netns list",
    "files in /etc": "find /etc -type f -exec sha256sum {} +; find /etc -type l -printf '%p -> %l\\n'",
    "folders in /etc": "find /etc -type d -printf '%p %U:%G %m\\n'",
    "programs": "find /opt /usr/local -maxdepth 2",
    "records": "find /var/lib/leeward -mindepth 1 -maxdepth 2 -printf '%p %u:%g\\n' 2>/dev/null || true",
}
Seen = dict[str, frozenset[str]]
_MARK = "=== "


def seen_on(node: Node) -> Seen:
    """Return the lines of each look."""
    said = str(node.ssh("\n".join(f"echo '{_MARK}{name}'\n{command}" for name, command in SEEN.items())).stdout)
    sections = (section.splitlines() for section in f"\n{said}".split(f"\n{_MARK}")[1:])
    return {lines[0]: frozenset(lines[1:]) for lines in sections}


def differences(before: Seen, after: Seen) -> dict[str, set[str]]:
    """Return what came (+) and what went (-), by look."""
    found = {
        name: {f"+{line}" for line in after[name] - before[name]} | {f"-{line}" for line in before[name] - after[name]}
        for name in SEEN
    }
    return {name: lines for name, lines in found.items() if lines}
