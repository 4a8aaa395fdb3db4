"""The compliance table: data that is whole, probes that can fail, and a page that shows the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from appliance.adapters.host.posture import Probe, probes
from appliance.domain.posture import Observation, PostureItem, Standing, as_markdown, counts, items_from_toml, judge
from appliance.resources import posture_table
from appliance.services.posture import Posture

ITEMS = items_from_toml(posture_table())
PAGE = Path(__file__).resolve().parents[3] / "docs/hardening.md"
ITEM = PostureItem(id="x", title="x", references=("CIS 1",), probe="sysctl", remedy="Set it.")


def answering(text: str | None) -> Mapping[str, Probe]:
    def run(command: Sequence[str]) -> str | None:
        assert command[0].startswith("/")
        return text

    return probes(run=run)


def test_every_item_has_references_a_probe_that_exists_and_a_remedy_or_a_reason() -> None:
    known = probes()

    assert len(ITEMS) > 40
    assert [item.id for item in ITEMS if item.probe not in known] == []
    assert [item.id for item in ITEMS if not item.references] == []
    assert [item.id for item in ITEMS if bool(item.remedy) == bool(item.exception)] == []


def test_the_page_shows_the_table_of_the_package() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(as_markdown(ITEMS))


@pytest.mark.parametrize(
    ("is_met", "exception", "standing"),
    [
        (True, "", Standing.MET),
        (True, "why", Standing.MET),
        (False, "", Standing.NOT_MET),
        (False, "why", Standing.EXCEPTION),
        (None, "", Standing.UNKNOWN),
        (None, "why", Standing.EXCEPTION),
    ],
)
def test_an_exception_counts_only_while_the_item_is_unmet(
    *, is_met: bool | None, exception: str, standing: Standing
) -> None:
    item = PostureItem(id="x", title="x", references=("CIS 1",), probe="sysctl", exception=exception)

    finding = judge(item, Observation(is_met=is_met, observed="seen"))

    assert finding.standing is standing
    assert finding.reason == (exception if standing is Standing.EXCEPTION else "")


def test_files_sysctls_mounts_and_packages_are_measured_below_a_root(tmp_path: Path) -> None:
    for path, content in {
        "proc/sys/kernel/yama/ptrace_scope": "0\n",
        "proc/self/mountinfo": "36 25 0:30 / /media rw,nosuid,nodev shared:1 - tmpfs tmpfs rw\n",
        "etc/x.conf": "  Storage=none\n",
        "var/lib/dpkg/info/autofs.list": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    ask = probes(tmp_path)

    assert ask["sysctl"]("kernel.yama.ptrace_scope", "1", "2").is_met is False
    assert ask["sysctl"]("kernel.yama.ptrace_scope", "0").is_met is True
    assert ask["sysctl"]("kernel.absent", "0").is_met is None
    assert ask["mount"]("/media", "nosuid", "nodev").is_met is True
    assert ask["mount"]("/media", "noexec").is_met is False
    assert ask["mount"]("/srv", "noexec").is_met is False
    assert ask["file"]("/etc/x.conf", "Storage=none").is_met is True
    assert ask["file"]("/etc/x.conf", "Storage=persistent").is_met is False
    assert ask["file"]("/etc/absent", "x").is_met is False
    assert ask["text"]("/etc/x.conf", "none").is_met is True
    assert ask["package-absent"]("autofs").is_met is False
    assert ask["package-present"]("autofs").is_met is True
    assert ask["mode"]("/etc/x.conf", "root", "root", "0600").is_met is False


def test_programs_answers_are_compared_and_their_silence_is_unknown() -> None:
    assert answering("maxauthtries 6\n")["sshd"]("maxauthtries", "4").is_met is False
    assert answering("maxauthtries 4\n")["sshd"]("maxauthtries", "4").is_met is True
    assert answering(None)["sshd"]("maxauthtries", "4").is_met is None
    exposed = "→ Overall exposure level for leewardd.service: 9.6 UNSAFE :-{\n"
    assert answering(exposed)["exposure"]("leewardd.service", "4.5").is_met is False
    assert answering(exposed)["exposure"]("leewardd.service", "9.6").is_met is True
    assert answering("")["exposure"]("leewardd.service", "4.5").is_met is None
    shown = "LoadState=loaded\nActiveState=failed\n"
    assert answering(shown)["unit-active"]("auditd.service").is_met is False
    assert answering(None)["nftables"]("leeward", "policy drop;").is_met is False


def test_a_bare_machine_does_not_pass_as_a_hardened_node(tmp_path: Path) -> None:
    findings = Posture(ITEMS, probes(tmp_path, run=lambda _command: None)).findings()

    found = counts(findings)
    assert len(findings) == len(ITEMS)
    assert found[Standing.MET] <= 2
    assert all(finding.remedy for finding in findings if finding.standing is Standing.NOT_MET)
