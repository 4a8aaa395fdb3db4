from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.errors import LabUnavailable
from tests.lab.sources import Source, installed_sources, parse_deb822, parse_one_line, point_release

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = f"""\
Types: deb deb-src
# a comment between fields
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


def test_one_line_entries_are_read_with_their_keyring_and_without_comments() -> None:
    text = f"""\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by={KEYRING}] http://mirror.example/debian bookworm main contrib # the mirror
deb-src http://mirror.example/debian bookworm main
deb\thttp://other.example/debian trixie main
"""

    assert parse_one_line(text) == (
        Source(uri="http://mirror.example/debian", suite="bookworm", components=("main", "contrib"), signed_by=KEYRING),
        Source(uri="http://other.example/debian", suite="trixie", components=("main",)),
    )


def test_each_suite_of_a_deb822_paragraph_is_a_source() -> None:
    found = parse_deb822(DEB822)

    assert [source.suite for source in found] == ["bookworm", "bookworm-updates", "bookworm-security"]
    assert found[0].components == ("main", "contrib")
    assert [source.signed_by for source in found] == [KEYRING, KEYRING, None]


@pytest.mark.parametrize("line", ["Enabled: no", "Types: deb-src"])
def test_a_paragraph_that_gives_no_binary_packages_is_no_source(line: str) -> None:
    paragraph = f"URIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n{line}\n"
    if "Types" not in line:
        paragraph += "Types: deb\n"

    assert parse_deb822(paragraph) == ()


def test_a_key_inside_a_paragraph_is_not_taken_for_a_path() -> None:
    paragraph = "Types: deb\nURIs: http://m.example/d\nSuites: s\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n"

    assert parse_deb822(paragraph)[0].signed_by is None


def test_all_files_of_an_apt_configuration_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    (tmp_path / "sources.list.d/two.list").write_text("deb http://two.example/debian bookworm main\n")
    (tmp_path / "sources.list.d/three.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/old.list.save").write_text("deb http://never.example/debian bookworm main\n")

    uris = [source.uri for source in installed_sources(tmp_path)]

    assert uris[:2] == ["http://one.example/debian", "http://two.example/debian"]
    assert len(uris) == 5
    assert "http://never.example/debian" not in uris


def test_a_node_is_made_from_the_point_release_and_never_from_its_security_suite() -> None:
    source = point_release(reversed(parse_deb822(DEB822)), suite="bookworm")

    assert source.suite == "bookworm"
    assert source.line() == f"deb [signed-by={KEYRING}] http://mirror.example/debian bookworm main"


def test_a_machine_without_a_mirror_is_told_which_one_is_needed() -> None:
    with pytest.raises(LabUnavailable) as refused:
        point_release(parse_deb822(DEB822), suite="trixie")

    assert "trixie" in refused.value.detail
    assert "sources.list.d" in refused.value.remedy
