"""Probes of the compliance table: each measures one thing on the node and says what it saw.

A probe never guesses: what cannot be read is unknown. `root` moves the paths, `run` the programs.
"""

from __future__ import annotations

import grp
import pwd
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from appliance.adapters.host.egress import Run
from appliance.adapters.host.egress import run as run_program
from appliance.domain.posture import Observation

_SYSTEMCTL: Final = "/usr/bin/systemctl"
_NO_SHELLS: Final = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")

Probe = Callable[..., Observation]


def probes(root: Path = Path("/"), run: Run = run_program) -> Mapping[str, Probe]:
    """Return every probe by the name that the table uses."""
    at = partial(Path.joinpath, root)
    return {
        "account-without-shell": account_without_shell,
        "absent": partial(absent, at),
        "exposure": partial(exposure, run),
        "file": partial(file, at),
        "mode": partial(mode, at),
        "mount": partial(mount, at),
        "not-measured": lambda: _unknown("no program can measure this"),
        "nftables": partial(nftables, run),
        "package-absent": partial(package, at, False),  # noqa: FBT003  bound once, here
        "package-present": partial(package, at, True),  # noqa: FBT003  bound once, here
        "sshd": partial(sshd, run),
        "sysctl": partial(sysctl, at),
        "text": partial(text, at),
        "unit-active": partial(unit_active, run),
        "unit-property": partial(unit_property, run),
    }


def _unknown(why: str) -> Observation:
    return Observation(is_met=None, observed=why)


def sysctl(at: Callable[[str], Path], name: str, *wanted: str) -> Observation:
    """Compare a kernel parameter with one of the wanted values."""
    try:
        seen = at(f"proc/sys/{name.replace('.', '/')}").read_text(encoding="ascii").strip()
    except OSError:
        return _unknown("this kernel has no such parameter")
    return Observation(is_met=seen in wanted, observed=seen)


def file(at: Callable[[str], Path], path: str, *lines: str) -> Observation:
    """Look for lines in a file, space at their ends aside."""
    try:
        seen = {
            line.strip() for line in at(path.lstrip("/")).read_text(encoding="utf-8", errors="replace").splitlines()
        }
    except OSError as error:
        return Observation(is_met=False, observed=f"{path}: {error.strerror}")
    missing = [line for line in lines if line not in seen]
    return Observation(is_met=not missing, observed=f"{path} lacks {missing[0]!r}" if missing else f"in {path}")


def text(at: Callable[[str], Path], path: str, needle: str) -> Observation:
    """Look for text anywhere in a file."""
    try:
        is_there = needle in at(path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return Observation(is_met=False, observed=f"{path}: {error.strerror}")
    return Observation(is_met=is_there, observed=f"{path} {'names' if is_there else 'does not name'} {needle}")


def absent(at: Callable[[str], Path], path: str) -> Observation:
    """Look that a path is not there."""
    is_there = at(path.lstrip("/")).exists()
    return Observation(is_met=not is_there, observed=f"{path} is {'there' if is_there else 'not there'}")


def mode(at: Callable[[str], Path], path: str, owner: str, group: str, most: str) -> Observation:
    """Compare owner and group, and look that no permission beyond `most` (octal) is given."""
    try:
        found = at(path.lstrip("/")).stat()
    except OSError as error:
        return Observation(is_met=False, observed=f"{path}: {error.strerror}")
    bits = stat.S_IMODE(found.st_mode)
    names = (_name(pwd.getpwuid, found.st_uid), _name(grp.getgrgid, found.st_gid))
    return Observation(
        is_met=names == (owner, group) and not bits & ~int(most, 8), observed=f"{names[0]}:{names[1]} {bits:04o}"
    )


def _name(look_up: Callable[[int], tuple[object, ...]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def mount(at: Callable[[str], Path], path: str, *options: str) -> Observation:
    """Look that a path is a mount of its own, with these options (proc(5), mountinfo)."""
    try:
        lines = at("proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return _unknown(str(error.strerror))
    mounts = [line.split() for line in lines if len(line.split()) > 5 and line.split()[4] == path]  # noqa: PLR2004  id, parent, device, root, mount point, options
    if not mounts:
        return Observation(is_met=False, observed=f"{path} is no mount of its own")
    seen = mounts[-1][5].split(",")
    missing = [option for option in options if option not in seen]
    return Observation(is_met=not missing, observed=f"{path} is mounted {','.join(seen)}")


def package(at: Callable[[str], Path], is_wanted: bool, *names: str) -> Observation:  # noqa: FBT001  bound by `probes`
    """Look whether packages are installed (dpkg's own lists)."""
    folder = at("var/lib/dpkg/info")
    if not folder.is_dir():
        return _unknown("no dpkg on this node")
    there = [n for n in names if (folder / f"{n}.list").exists() or (folder / f"{n}:amd64.list").exists()]
    is_met = len(there) == len(names) if is_wanted else not there
    return Observation(is_met=is_met, observed=f"installed: {', '.join(there) or 'none'}")


def account_without_shell(name: str) -> Observation:
    """Look that nobody can log in to an account."""
    try:
        shell = pwd.getpwnam(name).pw_shell
    except KeyError:
        return _unknown(f"no account {name}")
    return Observation(is_met=shell in _NO_SHELLS, observed=shell)


def sshd(run: Run, key: str, *wanted: str) -> Observation:
    """Compare a setting of the SSH server, as it reads its own configuration, with the wanted values."""
    said = run(("/usr/sbin/sshd", "-T"))
    if said is None:
        return _unknown("sshd does not tell its configuration, or is not there")
    settings = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    seen = settings.get(key, "nothing")
    return Observation(is_met=seen in wanted, observed=f"{key} {seen}")


def unit_active(run: Run, unit: str) -> Observation:
    """Look whether a unit is active."""
    return unit_property(run, unit, "ActiveState", "active")


def unit_property(run: Run, unit: str, name: str, *wanted: str) -> Observation:
    """Compare a property of a unit with the wanted values."""
    said = run((_SYSTEMCTL, "show", f"--property={name},LoadState", unit))
    if said is None:
        return _unknown("systemd does not answer")
    shown = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if shown.get("LoadState") != "loaded":
        return Observation(is_met=False, observed=f"{unit} is not there")
    return Observation(is_met=shown.get(name) in wanted, observed=f"{name}={shown.get(name, '')}")


def exposure(run: Run, unit: str, bound: str) -> Observation:
    """Compare systemd's own figure of a unit's exposure (0 to 10) with a bound."""
    said = run(("/usr/bin/systemd-analyze", "security", "--no-pager", unit))
    words = (said or "").rpartition("exposure level for ")[2].split()
    if len(words) < 2:  # noqa: PLR2004  the unit with its colon, the figure
        return _unknown("systemd does not tell")
    return Observation(is_met=float(words[1]) <= float(bound), observed=words[1])


def nftables(run: Run, table: str, *needles: str) -> Observation:
    """Look for text in a table of the inet family that is in force."""
    said = run(("/usr/sbin/nft", "--stateless", "--terse", "list", "table", "inet", table))
    if said is None:
        return Observation(is_met=False, observed=f"no table inet {table} is in force")
    missing = [needle for needle in needles if needle not in said]
    return Observation(
        is_met=not missing, observed=f"it lacks {missing[0]!r}" if missing else f"table inet {table} is in force"
    )
