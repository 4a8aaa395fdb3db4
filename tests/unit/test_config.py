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
