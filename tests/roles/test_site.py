"""The roles on a real node, over SSH from a controller that is as disconnected as the node itself.

The tests stand in the order of a node's life: applied, applied again, disturbed, removed.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence

import pytest

from appliance.adapters.host.egress import ENGINE, EgressTables
from appliance.domain.egress import EgressReading
from appliance.domain.errors import Canceled, PlaybookFailed
from appliance.domain.plan import Prediction
from appliance.domain.provision import UNINSTALL_PLAYBOOK
from tests.lab import Node
from tests.roles.conftest import APPLIANCE, CHECKOUT, ENGINE_ARGUMENTS, SLOT_PATH, Site
from tests.roles.inventory_of_node import differences, seen_on
from tests.roles.port_probe import answering_udp_ports, open_tcp_ports
from tests.roles.slot import SLOT

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

FOLDERS = {
    "/etc/leeward": ("root", "root", 0o755),
    "/etc/leeward/tls": ("root", "leeward-gateway", 0o750),
    "/var/lib/leeward/trust": ("root", "root", 0o755),
    "/var/lib/leeward/store": ("root", "root", 0o755),
    "/var/lib/leeward/state": ("root", "root", 0o700),
    "/var/lib/leeward/ledger": ("leeward-gateway", "leeward-auditor", 0o2750),
    "/var/lib/leeward/evidence-keys": ("root", "root", 0o700),
    "/var/lib/leeward/exports": ("root", "leeward-auditor", 0o750),
}
ACCOUNT_BACKUPS = {f"/etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow")}
"""Written by whatever tool changes accounts, of its state before."""
ASK_ENGINE = """
import socket
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect("/run/leeward-engine/engine.sock")
    print(asking.makefile().read())
"""


def test_a_node_without_the_release_is_refused_and_nothing_is_changed(site: Site) -> None:
    before = site.node.ssh("find /etc /opt /usr -newermt @0 -type f | xargs sha256sum | sha256sum").stdout

    with pytest.raises(PlaybookFailed) as refused:
        site.apply(base_repository="/var/lib/leeward/slots/other/os/debian-12")

    assert "role base" in refused.value.detail
    assert "Import the release again" in refused.value.detail
    assert site.node.ssh("find /etc /opt /usr -newermt @0 -type f | xargs sha256sum | sha256sum").stdout == before


def test_a_plan_for_a_new_node_tells_each_change_and_makes_none(site: Site) -> None:
    before = seen_on(site.node)

    tasks = site.plan()

    found = {(task.role, task.task): task for task in tasks}
    counts = {prediction.value: sum(task.prediction is prediction for task in tasks) for prediction in Prediction}
    print("plan of a new node:", counts)  # noqa: T201  the figure of the run, for the report
    for task in tasks:
        if task.prediction is Prediction.NOT_PREDICTABLE:
            print("   ", task.role, task.task, task.detail)  # noqa: T201  the same
    assert found["base", "Groups that carry the roles exist"].prediction is Prediction.CHANGES
    assert "URIs: file:" in found["base", "The release's package repository is an apt source"].detail
    assert found["gateway", "The gateway has a private key"].prediction is not Prediction.UNCHANGED
    assert {task.role for task in tasks} >= {"base", "storage", "engine_vllm", "gateway", "console", "firewall"}
    assert differences(before, seen_on(site.node)) == {}


def test_the_first_run_succeeds_without_cutting_an_open_session(site: Site) -> None:
    with subprocess.Popen(
        site.node.shell.argv("echo open; read line; echo still $line"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "open\n"

        result = site.apply()

        said, _ = session.communicate("here\n", timeout=30)
    print("seconds by role:", site.seconds_by_role())  # noqa: T201  the figure of the run, for the report
    assert result.changed > 0
    assert (result.failed, result.rescued, result.ignored) == (0, 0, 0)
    assert said == "still here\n"


def test_a_second_run_changes_nothing(site: Site) -> None:
    result = site.apply()

    assert (result.changed, result.failed) == (0, 0)


def test_a_plan_for_a_node_that_is_as_it_should_be_predicts_no_change(site: Site) -> None:
    predictions = {(task.role, task.task): task.prediction for task in site.plan()}

    assert set(predictions.values()) == {Prediction.UNCHANGED}


def test_accounts_have_no_shell_and_only_the_groups_they_need(site: Site) -> None:
    engine, gateway = site.host.user("leeward-engine"), site.host.user("leeward-gateway")

    assert (engine.shell, engine.groups) == ("/usr/sbin/nologin", ["leeward-engine"])
    assert (gateway.shell, set(gateway.groups)) == ("/usr/sbin/nologin", {"leeward-gateway", "leeward-engine"})
    assert all(site.host.group(f"leeward-{role}").exists for role in ("admin", "operator", "auditor"))


def test_folders_have_the_owners_and_modes_of_the_design(site: Site) -> None:
    found = {path: site.host.file(path) for path in FOLDERS}

    assert {path: (file.user, file.group, file.mode) for path, file in found.items()} == FOLDERS


def test_units_start_with_the_node_and_only_the_firewall_is_started(site: Site) -> None:
    units = ("leeward-engine", "leeward-engine-network", "leeward-gateway", "leeward-firewall", "leewardd")
    services = {unit: site.host.service(unit) for unit in units}

    assert all(service.is_enabled for service in services.values())
    assert [unit for unit, service in services.items() if service.is_running] == ["leeward-firewall"]
    assert site.node.ssh("systemctl --failed --no-legend").stdout == ""


def test_the_engine_gets_its_arguments_to_the_letter_and_sees_nothing_else(site: Site) -> None:
    site.node.ssh("mkdir -p /var/lib/leeward/ledger && systemctl start leeward-engine")
    seen = json.loads(site.node.ssh("sleep 3; python3 -", input=ASK_ENGINE).stdout)

    assert seen["arguments"] == ENGINE_ARGUMENTS
    assert seen["environment"] == {"VLLM_NOTE": '100% of $HOME, "quoted"'}
    assert seen["interfaces"] == ["lo"]
    assert seen["reachable"] == []
    assert seen["uid"] != 0
    assert seen["no_new_privileges"]
    assert seen["cache_writable"]
    assert not seen["weights_writable"]
    assert not seen["ledger_readable"]
    assert not seen["state_readable"]


def test_the_engine_socket_serves_the_gateway_group_and_nobody_else(site: Site) -> None:
    socket = "/run/leeward-engine/engine.sock"

    assert site.node.ssh(f"runuser -u leeward-gateway -- test -w {socket}", check=False).returncode == 0
    assert site.node.ssh(f"runuser -u nobody -- test -w {socket}", check=False).returncode != 0


def test_the_gateway_reads_its_key_and_nobody_else_does(site: Site) -> None:
    key = "/etc/leeward/tls/server.key"

    assert site.node.ssh(f"runuser -u leeward-gateway -- test -r {key}", check=False).returncode == 0
    assert site.node.ssh(f"runuser -u leeward-engine -- test -r {key}", check=False).returncode != 0
    names = site.node.ssh("openssl x509 -in /etc/leeward/tls/server.crt -noout -ext subjectAltName").stdout
    assert f"IP Address:{site.node.address}" in names
    assert "DNS:" in names


def test_the_gateway_cannot_reach_the_management_socket(site: Site) -> None:
    site.node.ssh("mkdir -p /run/leeward && systemctl start leeward-gateway")
    pid = site.node.ssh("systemctl show --property MainPID --value leeward-gateway").stdout.strip()

    inside = site.node.ssh(
        f"nsenter -t {pid} -m -- setpriv --reuid leeward-gateway --clear-groups ls /run/leeward", check=False
    )

    assert inside.returncode != 0
    assert "Permission denied" in inside.stderr
    assert site.node.ssh("ls /run/leeward", check=False).returncode == 0


def test_apt_sees_the_releases_repository_and_no_other(site: Site) -> None:
    policy = site.node.ssh("APT_CONFIG=/etc/leeward/apt.conf apt-cache policy").stdout

    assert f"file:{SLOT_PATH}/os/debian-12 leeward/main" in policy
    assert "http" not in policy


def test_a_repository_that_is_not_what_was_signed_is_refused(site: Site) -> None:
    signed = f"{SLOT_PATH}/os/debian-12/dists/leeward/InRelease"
    site.node.ssh(f"cp -p {signed} /root/InRelease && sed -i 's/^Origin: Leeward/Origin: Someone/' {signed}")

    with pytest.raises(PlaybookFailed) as refused:
        site.apply("install")

    site.node.ssh(f"cp -p /root/InRelease {signed}")
    assert "role base" in refused.value.detail
    assert "The package index is read" in refused.value.detail


def test_the_node_has_no_route_out_and_sends_nothing_of_its_own(site: Site) -> None:
    assert site.node.ssh("ip route show default; ip -6 route show default").stdout == ""

    assert "refused" in _connects_from(site.node, "10.88.0.1", 22)
    assert _counter(site.node, "outbound_dropped") > 0


def test_of_all_ports_a_neighbour_sees_the_gateways_and_that_of_ssh_alone(site: Site) -> None:
    address, node = site.node.address, site.node
    node.ssh("systemd-run --quiet --unit probe python3 -m http.server 9000")
    node.ssh("systemd-run --quiet --unit probe-high python3 -m http.server 61234")
    node.ssh("systemd-run --quiet --unit probe-gateway python3 -m http.server 8443")
    node.ssh("sleep 1")
    dropped = _counter(node, "inbound_dropped")

    tcp, udp = open_tcp_ports(address), answering_udp_ports(address)

    seen_by_the_firewall = _counter(node, "inbound_dropped") - dropped
    rule = (
        node.ssh("nft --echo --handle insert rule inet leeward inbound accept").stdout.split(" handle ")[1].split()[0]
    )
    without = open_tcp_ports(address), answering_udp_ports(address)
    node.ssh(f"nft delete rule inet leeward inbound handle {rule}; systemctl stop 'probe*'")
    print("open:", sorted(tcp), sorted(udp), "behind no firewall:", sorted(without[0]), len(without[1]))  # noqa: T201  for the report
    assert (tcp, udp) == ({22, 8443}, frozenset())
    assert seen_by_the_firewall > 0.99 * 2 * 65535  # next to all of what was asked arrived there, and was dropped
    assert without[0] >= {22, 8443, 9000, 61234}  # the probe sees what it should, were there no firewall
    assert without[1]


def test_a_hands_change_to_the_rules_is_taken_back_and_other_tables_stay(site: Site) -> None:
    site.node.ssh("nft insert rule inet leeward inbound accept && nft add table inet site")

    result = site.apply("precheck", "install", "configure", "verify")

    assert result.changed == 1
    assert "\taccept\n" not in site.node.ssh("nft list chain inet leeward inbound").stdout.replace("\t\t", "\t")
    assert site.node.ssh("nft list table inet site").stdout.startswith("table inet site")


def test_an_interrupted_environment_is_made_anew_and_the_sites_certificate_stays(site: Site) -> None:
    certificate = site.node.ssh("sha256sum /etc/leeward/tls/server.crt").stdout
    site.node.ssh(f"rm /opt/leeward/engine/{SLOT}/.complete-*; touch /opt/leeward/engine/{SLOT}/half")

    site.apply("install", "configure")

    assert not site.host.file(f"/opt/leeward/engine/{SLOT}/half").exists
    assert site.node.ssh(f"ls /opt/leeward/engine/{SLOT}/.complete-*").stdout
    assert site.host.file("/opt/leeward/engine/current").linked_to == f"/opt/leeward/engine/{SLOT}"
    assert site.node.ssh("sha256sum /etc/leeward/tls/server.crt").stdout == certificate


def test_an_environment_is_readable_by_the_engine_under_a_strict_umask(site: Site) -> None:
    site.node.ssh(f"rm -r /opt/leeward/engine/{SLOT}; echo umask 077 > /root/.bashrc.new")
    site.node.ssh("cat /root/.bashrc.new /root/.bashrc > /root/.bashrc.both; mv /root/.bashrc.both /root/.bashrc")

    site.apply("install")

    program = f"/opt/leeward/engine/{SLOT}/bin/vllm"
    assert site.node.ssh("umask").stdout.strip() == "0077"
    assert site.node.ssh(f"runuser -u leeward-engine -- test -x {program}", check=False).returncode == 0


def test_every_try_of_the_engine_to_get_out_is_refused_and_recorded(site: Site) -> None:
    tries = json.loads(site.node.ssh("python3 -", input=ASK_ENGINE).stdout)["tries"]

    reading = _egress(site.node)

    recorded = {(each.protocol, each.destination) for each in reading.counted + reading.seen if each.account == ENGINE}
    assert "got out" not in tries.values()
    assert len(tries) == 6
    assert {
        ("tcp", "192.0.2.7:443"),
        ("udp", "192.0.2.8:5000"),
        ("udp", "192.0.2.9:123"),
        ("udp", "127.0.0.1:53 (name lookup)"),
        ("unix", "@outside"),
        ("unix", "/run/leeward/management.sock"),
    } <= recorded
    assert reading.missing == ()


def test_what_the_engine_tried_is_still_counted_after_it_was_restarted(site: Site) -> None:
    before = {each.key: each.count for each in _egress(site.node).counted if each.account == ENGINE}

    site.node.ssh("systemctl restart leeward-engine && sleep 3")

    after = {each.key: each.count for each in _egress(site.node).counted if each.account == ENGINE}
    assert after[ENGINE, "tcp", "192.0.2.7:443"] == before[ENGINE, "tcp", "192.0.2.7:443"] + 1


def test_a_far_destination_of_the_gateway_is_refused_and_recorded_with_its_account(site: Site) -> None:
    probe = "import socket; socket.create_connection(('192.0.2.77', 443), timeout=5)"

    refused = site.node.ssh(f'runuser -u leeward-gateway -- python3 -c "{probe}"', check=False)

    reading = _egress(site.node)
    assert "ConnectionRefusedError" in refused.stderr
    assert ("leeward-gateway", "tcp", "192.0.2.77:443") in {each.key for each in reading.counted}
    assert site.node.ssh("ip route show default; ip -6 route show default").stdout == ""


def test_sign_in_runs_where_the_site_decided_so_and_may_ask_its_servers_alone(site: Site) -> None:
    account = site.host.user("leeward-sign-in")
    rules = site.node.ssh("nft --numeric list chain inet leeward outbound").stdout
    probe = "import socket; socket.create_connection(('192.0.2.77', 443), timeout=5)"

    refused = site.node.ssh(f'runuser -u leeward-sign-in -- python3 -c "{probe}"', check=False)

    assert (account.shell, account.groups) == ("/usr/sbin/nologin", ["leeward-sign-in"])
    assert site.host.service("leeward-sign-in").is_running
    assert f"meta skuid {account.uid} ip daddr 192.0.2.9 tcp dport {{ 443, 636 }}" in rules
    assert "Error" in refused.stderr
    assert site.node.ssh("runuser -u leeward-sign-in -- cat /etc/leeward/sign-in.toml").stdout == ""


def test_units_are_sandboxed_within_their_bounds(site: Site) -> None:
    bounds = {"leeward-engine": 2.0, "leeward-gateway": 2.0, "leeward-sign-in": 2.0, "leewardd": 4.5}
    site.node.copy_to(CHECKOUT / "appliance/units/leewardd.service", "/etc/systemd/system/leewardd.service")

    said = {unit: site.node.ssh(f"systemd-analyze security --no-pager {unit}").stdout for unit in bounds}

    figures = {unit: float(text.rpartition("exposure level for ")[2].split()[1]) for unit, text in said.items()}
    print("exposure:", figures)  # noqa: T201  the figures of the run, for the report
    assert all(figures[unit] <= bound for unit, bound in bounds.items())


def test_ssh_takes_keys_only_where_a_key_lets_the_administrator_in(site: Site) -> None:
    settings = site.node.ssh("sshd -T").stdout.splitlines()

    assert {"passwordauthentication no", "permitrootlogin without-password", "maxauthtries 4"} <= set(settings)
    assert site.node.ssh("echo in").stdout == "in\n"


def test_the_journal_outlives_a_restart_and_audit_rules_are_set_down(site: Site) -> None:
    rules = site.host.file("/etc/audit/rules.d/60-leeward.rules").content_string

    assert site.host.file("/var/log/journal").is_directory
    assert "-F uid=leeward-engine -F success=0" in rules
    assert site.node.ssh("systemctl --failed --no-legend").stdout == ""


def test_an_uninstallation_that_was_stopped_midway_leaves_the_daemon_that_can_end_it(site: Site) -> None:
    site.node.ssh("touch /var/lib/leeward/ledger/ledger.db")

    with pytest.raises(Canceled):
        site.apply(playbook=UNINSTALL_PLAYBOOK, until="The gateway's unit is gone")

    units = site.node.ssh("ls /etc/systemd/system").stdout
    assert "leeward-gateway" not in units
    assert "leeward-engine" in units
    assert site.host.file(f"{APPLIANCE}/bin/leewardd").exists
    assert site.host.user("leeward-gateway").exists


def test_after_an_uninstallation_the_node_is_what_it_was_and_the_sites_records_stay(site: Site) -> None:
    site.apply(playbook=UNINSTALL_PLAYBOOK)

    site.node.ssh("until [ ! -e /etc/systemd/system/leeward-leave.service ]; do sleep 1; done", timeout_s=60)
    found = differences(site.before, seen_on(site.node))
    print("left by an uninstallation:", found)  # noqa: T201  what docs/plan.md names, for the report
    files = {line.split()[-1] for line in found.pop("files in /etc")}
    stay = {f"/etc/leeward/{name}" for name in ("tls/server.key", "tls/server.crt", "sign-in.toml")}
    assert files == {*ACCOUNT_BACKUPS, *stay}
    assert found.pop("folders in /etc") == {"+/etc/leeward 0:0 755", "+/etc/leeward/tls 0:0 750"}
    assert found.pop("nftables") == {"+table inet site"}  # a test's own, see above
    assert found.pop("programs") == {"-/opt/leeward", "-/opt/leeward/appliance"}  # the bootstrap's, from before
    records = found.pop("records")
    assert {f"+/var/lib/leeward/{kept} root:root" for kept in ("ledger/ledger.db", "evidence-keys", "trust")} < records
    assert {line for line in records if line.startswith("+") and not line.endswith(" root:root")} == set()
    assert found == {}


def _egress(node: Node) -> EgressReading:
    """Read as the management daemon does, over SSH."""

    def run(command: Sequence[str]) -> str | None:
        done = node.ssh(shlex.join(command), check=False)
        return str(done.stdout) if done.returncode == 0 else None

    def name_of(uid: int) -> str:
        return str(node.ssh(f"getent passwd {uid}").stdout).partition(":")[0]

    return EgressTables(run=run, name_of=name_of).read(None)


def _connects_from(node: Node, address: str, port: int) -> str:
    probe = f"""
import socket
with socket.socket() as asking:
    asking.settimeout(2)
    try:
        asking.connect(("{address}", {port}))
    except OSError as error:
        print(error)
    else:
        print("connected")
"""
    return str(node.ssh("python3 -", input=probe).stdout).strip()


def _counter(node: Node, name: str) -> int:
    words = node.ssh(f"nft list counter inet leeward {name}").stdout.split()
    return int(words[words.index("packets") + 1])
