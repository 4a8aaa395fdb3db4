"""The site configuration: defaults, decisions, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import Paths, Settings, parse_settings
from appliance.domain.errors import ConfigInvalid


def parsed(text: str) -> Settings:
    return parse_settings(text, paths=Paths(root=Path("/r")), host_name="llm01")


def test_an_absent_file_means_the_defaults_and_nothing_simulated(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path)

    assert settings.gateway.port == 8443
    assert settings.simulation.nvml is None
    assert settings.paths.database == tmp_path / "var/lib/leeward/state/leeward.db"


def test_decisions_are_read(tmp_path: Path) -> None:
    (tmp_path / "etc/leeward").mkdir(parents=True)
    (tmp_path / "etc/leeward/leeward.toml").write_text(
        '[node]\nname = "n7"\n[gateway]\nport = 9443\n[simulation]\nnvml = "/x/libnvidia-ml.so.1"\n'
    )

    settings = Settings.load(tmp_path)

    assert (settings.node_name, settings.gateway.port) == ("n7", 9443)
    assert settings.simulation.nvml == Path("/x/libnvidia-ml.so.1")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gateway]\nprot = 1\n", "unknown key gateway.prot"),
        ("[gatewy]\nport = 1\n", "unknown key gatewy"),
        ('[gateway]\nport = "8443"\n', "gateway.port is str, not int"),
        ("[gateway]\nport = true\n", "gateway.port is bool, not int"),
        ("[gateway]\nport = 0\n", "gateway.port is 0"),
        ('[import]\nscan = ["clamdscan"]\n', "import.scan does not begin"),
        ("[import]\nscan = []\n", "import.scan does not begin"),
        ("gateway = 1\n", "gateway is not a table"),
        ("[gateway\n", "does not parse"),
    ],
)
def test_a_mistake_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigInvalid, match=named) as raised:
        parsed(text)

    assert raised.value.remedy


def test_the_scanner_is_a_command_of_words_or_none() -> None:
    assert parsed("").imports.scan is None
    assert parsed('[import]\nscan = ["/bin/scan", "--fd pass"]\n').imports.scan == ("/bin/scan", "--fd pass")


def test_a_mistake_names_every_wrong_key_at_once() -> None:
    with pytest.raises(ConfigInvalid, match=r"unknown key a; unknown key gateway\.b"):
        parsed("[a]\n[gateway]\nb = 1\n")


def test_readers_of_metrics_and_slow_requests_are_the_sites_decision() -> None:
    settings = parsed(
        f'[gateway]\nslow_start_s = 3\n[metrics]\ntoken_sha256 = "{"a" * 64}"\nnetworks = ["10.1.0.9/32"]\n'
    )

    assert (settings.gateway.slow_start_s, settings.gateway.slow_request_s) == (3, 120)
    assert (settings.metrics.token_sha256, settings.metrics.networks) == ("a" * 64, ("10.1.0.9/32",))
    assert parsed("").metrics.token_sha256 is None


def test_engines_elsewhere_are_let_through_the_firewall_and_no_others() -> None:
    settings = parsed(
        '[[engines]]\nname = "near"\nsocket = "/run/leeward-engine/engine.sock"\n'
        '[[engines]]\nname = "far"\naddress = "10.1.0.12"\ntls_name = "llm02"\nslots = 128\n'
    )

    near, far = settings.engines
    assert (near.socket, near.address) == (Path("/run/leeward-engine/engine.sock"), None)
    assert (far.address, far.port, far.tls_name, far.slots) == ("10.1.0.12", 8444, "llm02", 128)
    assert settings.role_variables["firewall_engines"] == [{"address": "10.1.0.12", "port": 8444}]
    assert parsed("").engines == ()
    assert parsed("").role_variables["firewall_engines"] == []


def test_there_is_a_door_to_the_engine_only_where_callers_are_named() -> None:
    named = parsed('[door]\ncallers = ["llm01"]\nnetworks = ["10.1.0.11/32"]\n').role_variables
    unnamed = parsed('[door]\nnetworks = ["10.1.0.11/32"]\n').role_variables

    assert (named["engine_door_port"], named["firewall_door_port"]) == (8444, 8444)
    assert named["firewall_door_sources"] == ["10.1.0.11/32"]
    assert (unnamed["engine_door_port"], unnamed["firewall_door_port"]) == (0, 0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[door]\nport = 0\n", "door.port is 0"),
        ('[door]\nnetworks = ["10.1.0.11/8"]\n', "door.networks"),
        ('[metrics]\ntoken_sha256 = "secret"\n', "token_sha256 is not 64"),
        ('[metrics]\nnetworks = ["10.1.0.9/8"]\n', "metrics.networks"),
        ("[gateway]\nslow_start_s = 0\n", "at least 1"),
        ('[engines]\nname = "a"\n', "engines is not a list of tables"),
        ("[[engines]]\nport = 1\n", "its name is not"),
        ('[[engines]]\nname = "a"\n', "either a socket or an address"),
        ('[[engines]]\nname = "a"\nsocket = "/a"\naddress = "10.0.0.1"\n', "either a socket or an address"),
        ('[[engines]]\nname = "a"\nsocket = "a"\n', "begins with /"),
        ('[[engines]]\nname = "a"\naddress = "llm02"\n', "'llm02' is no IPv4 address"),
        ('[[engines]]\nname = "a"\naddress = "10.0.0.1"\nport = 0\n', "a: port is 0"),
        ('[[engines]]\nname = "a"\nsocket = "/a"\nslots = 0\n', "at least 1"),
        ('[[engines]]\nname = "a"\nsocket = "/a"\n[[engines]]\nname = "a"\nsocket = "/b"\n', "more than once"),
        ('[[engines]]\nname = "a"\nsokcet = "/a"\n', "unknown key engines.sokcet"),
    ],
)
def test_a_mistake_about_engines_or_metrics_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigInvalid, match=named):
        parsed(text)
