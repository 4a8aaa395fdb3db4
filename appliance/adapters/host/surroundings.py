"""What else runs on the node, and what is left of an earlier installation.

Sources: cgroups(7), proc(5), passwd(5), systemd's journald.conf(5), selinuxfs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance.adapters.host.tree import Tree
from appliance.domain.node import Account

ACCOUNTS: Final = ("leeward-engine", "leeward-gateway")
ENGINE_UNIT: Final = "leeward-engine.service"
SLOTS: Final = "var/lib/leeward/slots"
ANCHOR: Final = "var/lib/leeward/trust/anchor.root.json"
_REMAINS: Final = (
    "opt/leeward/engine",
    "var/lib/leeward/ledger/ledger.db",
    "etc/systemd/system/leeward-engine.service",
    "etc/systemd/system/leeward-gateway.service",
)
_SELINUX: Final = {"0": "permissive", "1": "enforcing"}
_CONTAINERS: Final = ("docker", "lxc", "podman", "systemd-nspawn", "container")
_PASSWD_FIELDS: Final = 7


def services(tree: Tree) -> frozenset[str] | None:
    """Return the system services that have a process; `None` where systemd's groups cannot be read.

    systemd removes the control group of a service that has none.
    """
    for groups in ("sys/fs/cgroup/system.slice", "sys/fs/cgroup/systemd/system.slice"):
        names = tree.names(groups)
        if names is not None:
            return frozenset(
                name for name in names if name.endswith(".service") and (tree.exists(f"{groups}/{name}/cgroup.procs"))
            )
    return None


def cgroup_unified(tree: Tree) -> bool | None:
    """Return whether all controllers are in the one hierarchy of cgroup v2."""
    if not tree.exists("sys/fs/cgroup"):
        return None
    return tree.exists("sys/fs/cgroup/cgroup.controllers")


def virtualization(tree: Tree, cpu_flags: frozenset[str]) -> str:
    """Return `container`, `machine` or `none`."""
    told = tree.word("run/systemd/container") or tree.word("run/host/container-manager")
    environment = (tree.read("proc/1/environ") or b"").split(b"\0")
    if told or any(word.startswith(b"container=") for word in environment) or tree.exists(".dockerenv"):
        return "container"
    return "machine" if "hypervisor" in cpu_flags else "none"


def selinux(tree: Tree) -> str:
    """Return the mode; without selinuxfs the kernel has it not or has it off."""
    word = tree.word("sys/fs/selinux/enforce")
    return "disabled" if word is None else _SELINUX.get(word, "enforcing")


def apparmor(tree: Tree) -> bool:
    """Return whether AppArmor is at work."""
    return tree.word("sys/module/apparmor/parameters/enabled") == "Y"


def lockdown(tree: Tree) -> str | None:
    """Return the kernel's lockdown, which stands in brackets among the possible ones."""
    word = tree.word("sys/kernel/security/lockdown")
    return None if word is None else word.partition("[")[2].partition("]")[0] or None


def journal_persistent(tree: Tree) -> bool | None:
    """Return whether the journal outlives a reboot: `Storage=persistent`, or `auto` with its folder."""
    texts = [tree.text("etc/systemd/journald.conf") or ""]
    for folder in ("usr/lib/systemd/journald.conf.d", "etc/systemd/journald.conf.d"):
        texts += [tree.text(f"{folder}/{name}") or "" for name in tree.names(folder) or () if name.endswith(".conf")]
    said = [
        line.partition("=")[2].strip()
        for text in texts
        for line in map(str.strip, text.splitlines())
        if line.startswith("Storage=")
    ]
    storage = said[-1] if said else "auto"
    return storage == "persistent" or (storage == "auto" and tree.exists("var/log/journal"))


def accounts(tree: Tree) -> tuple[Account, ...] | None:
    """Return Leeward's accounts and all that share a number with one of them."""
    table = tree.text("etc/passwd")
    if table is None:
        return None
    rows = [words for line in table.splitlines() if len(words := line.split(":")) == _PASSWD_FIELDS]
    everyone = [Account(name=w[0], uid=int(w[2]), shell=w[6]) for w in rows if w[2].isdigit()]
    ours = {account.uid for account in everyone if account.name in ACCOUNTS}
    return tuple(account for account in everyone if account.uid in ours)


def current_slot(tree: Tree) -> str | None:
    """Return the slot that is current."""
    link = tree.link(f"{SLOTS}/current")
    return None if link is None else link.rstrip("/").rpartition("/")[2]


def remains(tree: Tree) -> tuple[str, ...]:
    """Return what an installation left that no slot accounts for; nothing where there are slots."""
    if any(not name.startswith(".") for name in tree.names(SLOTS) or ()):
        return ()
    return tuple("/" + path for path in _REMAINS if tree.exists(path))


def other_engines(tree: Tree) -> tuple[str, ...]:
    """Return vLLM processes outside Leeward's unit: name and number."""
    found = []
    for name in tree.names("proc") or ():
        if not name.isdigit():
            continue
        words = (tree.read(f"proc/{name}/cmdline") or b"").split(b"\0")[:4]
        if any(word.rpartition(b"/")[2] == b"vllm" or word.startswith(b"vllm.") for word in words) and not _is_ours(
            tree, name
        ):
            found.append(program(tree, name))
    return tuple(found)


def gpu_users(tree: Tree, pids: Iterable[int]) -> tuple[str, ...]:
    """Return the programs of `pids` that are not of Leeward's engine."""
    return tuple(program(tree, str(pid)) for pid in sorted(set(pids)) if not _is_ours(tree, str(pid)))


def program(tree: Tree, pid: str) -> str:
    """Return the name and number of a process, never its arguments."""
    return f"{tree.word(f'proc/{pid}/comm') or 'unknown'} ({pid})"


def _is_ours(tree: Tree, pid: str) -> bool:
    return f"/{ENGINE_UNIT}" in (tree.text(f"proc/{pid}/cgroup") or "")


def umask(tree: Tree) -> int | None:
    """Return the umask that people get on this node, as login.defs(5) says it."""
    for line in (tree.text("etc/login.defs") or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "UMASK":  # noqa: PLR2004  name and value
            try:
                return int(words[1], 8)
            except ValueError:
                return None
    return None


def locale(tree: Tree) -> str | None:
    """Return the system's LANG."""
    for path in ("etc/locale.conf", "etc/default/locale"):
        for line in (tree.text(path) or "").splitlines():
            name, _, value = line.strip().partition("=")
            if name in {"LANG", "LC_ALL"}:
                return value.strip("\"'")
    return None
