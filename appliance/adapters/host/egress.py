"""What the kernel counted of tries to get out, and what the engine's witness saw.

Three places are read: the firewall's table on the node, the table in the engine's own network, and
the engine's journal. The programs are named by absolute path and run with a time limit.
"""

from __future__ import annotations

import json
import pwd
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from appliance.domain.egress import MANY, OTHER, EgressReading, Try

ENGINE: Final = "leeward-engine"
ENGINE_NETWORK: Final = Path("/run/netns/leeward-engine")
ENGINE_UNIT: Final = "leeward-engine.service"
WITNESS: Final = "leeward-witness "
"""How a line of the witness begins; `appliance.entrypoints.witness` writes it."""
_NFT: Final = ("/usr/sbin/nft", "--json", "--numeric")
_COUNTER: Final = "outbound_"
_PROTOCOLS: Final = {6: "tcp", 17: "udp", "tcp": "tcp", "udp": "udp"}
_TIMEOUT_S: Final = 10.0
_MOST_LINES: Final = 50_000

Run = Callable[[Sequence[str]], str | None]
"""Runs a program; `None` where it could not, or ended otherwise than with 0."""


def run(command: Sequence[str]) -> str | None:
    """Run a program of the node to its end and return its output."""
    try:
        done = subprocess.run(  # noqa: S603  absolute programs, no shell
            list(command),
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def account_name(uid: int) -> str:
    """Name an account, or give its number where it is gone."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


class EgressTables:
    """`services.egress.EgressSource` for the node that it runs on."""

    def __init__(self, *, run: Run = run, name_of: Callable[[int], str] = account_name) -> None:
        self._run = run
        self._name_of = name_of

    def read(self, cursor: str | None) -> EgressReading:
        """Read all three places; `cursor` is where the journal was read to."""
        missing: list[str] = []
        counted: list[Try] = []
        places = {
            "the firewall's table": (*_NFT, "list", "table", "inet", "leeward"),
            "the table in the engine's network": (
                "/usr/bin/nsenter", f"--net={ENGINE_NETWORK}", *_NFT, "list", "table", "inet", "leeward_engine",
            ),
        }  # fmt: skip
        for place, command in places.items():
            text = self._run(command)
            if text is None:
                missing.append(place)
            else:
                counted += table_tries(json.loads(text), self._name_of)
        lines = self._run(_journal(cursor))
        if lines is None:
            missing.append("the engine's journal")
        seen, newest = witnessed(lines or "")
        return EgressReading(counted=tuple(counted), seen=seen, cursor=newest, missing=tuple(missing))


def table_tries(listing: dict[str, Any], name_of: Callable[[int], str]) -> Iterator[Try]:
    """Give the tries in `nft --json list table`: what the sets remember, and what the counters have beyond."""
    by_account: dict[str, int] = defaultdict(int)
    counters: dict[str, int] = {}
    is_full = False
    for entry in listing["nftables"]:
        if "counter" in entry and entry["counter"]["name"].startswith(_COUNTER):
            counters[entry["counter"]["name"].removeprefix(_COUNTER)] = entry["counter"]["packets"]
        elements = entry.get("set", {}).get("elem", [])
        is_full = is_full or len(elements) >= entry.get("set", {}).get("size", len(elements) + 1)
        for element in elements:
            uid, address, protocol, port = element["elem"]["val"]["concat"]
            account, count = name_of(int(uid)), int(element["elem"]["counter"]["packets"])
            by_account[account] += count
            place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            yield Try(
                account=account,
                protocol=_PROTOCOLS.get(protocol, str(protocol)),
                destination=f"{place} (name lookup)" if port == 53 else place,  # noqa: PLR2004  DNS
                count=count,
            )
    for account, packets in counters.items():
        is_whole_network = "dropped" not in counters  # the engine's: an administrator may have entered it too
        beyond = packets - (sum(by_account.values()) if is_whole_network else by_account[account])
        if account != "dropped" and beyond > 0:
            yield Try(account=account, protocol="other", destination=MANY if is_full else OTHER, count=beyond)


def witnessed(journal: str) -> tuple[tuple[Try, ...], str | None]:
    """Return the tries that the witness wrote, and the cursor after them.

    The witness speaks at each tenfold of a count; a line adds what came since the one before.
    """
    tries, cursor = [], None
    for line in journal.splitlines():
        entry = json.loads(line)
        cursor = entry.get("__CURSOR", cursor)
        message = entry.get("MESSAGE")
        if not isinstance(message, str) or not message.startswith(WITNESS):
            continue
        try:
            said = json.loads(message.removeprefix(WITNESS))
            name, count = str(said["name"]), int(said["count"])
        except (ValueError, KeyError, TypeError):  # not the witness's own hand: what it watches can write there too
            name, count = "(a line that cannot be read)", 1
        tries.append(Try(account=ENGINE, protocol="unix", destination=name, count=count - count // 10))
    return tuple(tries), cursor


def _journal(cursor: str | None) -> tuple[str, ...]:
    since = () if cursor is None else (f"--after-cursor={cursor}",)
    options = ("--output=json", "--output-fields=MESSAGE", "--no-pager", "--quiet", f"--lines={_MOST_LINES}")
    return ("/usr/bin/journalctl", f"--unit={ENGINE_UNIT}", *options, *since)
