"""What a wheel or a Debian package says of itself, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundles.errors import SourceFailed
from bundles.sbom import packages
from bundles.sbom.packages import read_deb, read_wheel
from tests.unit.sbom.packages import ar_member, deb, wheel

META = "Metadata-Version: 2.4\nName: Some_Pkg\nVersion: 1.0+cpu\n"
CONTROL = "Package: libx+\nVersion: 1:2.0+b1~rc\nArchitecture: amd64\n"


def test_a_wheel_with_an_expression_and_declared_texts(tmp_path: Path) -> None:
    metadata = f"{META}License-Expression: Apache-2.0 OR MIT\nLicense-File: LICENSE\nLicense-File: sub/MIT.txt\n"
    texts = {
        "licenses/LICENSE": b"one\r\n",
        "licenses/sub/MIT.txt": b"two\0\n",
        "RECORD": b"",
        "COPYING": b"not declared",
    }

    found = read_wheel(wheel(tmp_path, metadata, texts=texts))

    assert (found.name, found.version) == ("Some_Pkg", "1.0+cpu")
    assert found.purl == "pkg:pypi/some-pkg@1.0%2Bcpu"
    assert found.expression == "Apache-2.0 OR MIT"
    assert found.license_names == ()
    assert found.texts == ("one\n", "two\ufffd\n")


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ("License: MIT\n", ("MIT",)),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: BSD License\n", ("BSD License",)),
        (f"License: {'long ' * 40}\nClassifier: License :: OSI Approved\n", ()),
        ("Classifier: Topic :: System\nClassifier: License :: Public Domain\n", ("Public Domain",)),
        ("", ()),
    ],
)
def test_a_wheel_with_older_fields_gives_names_and_guesses_nothing(
    tmp_path: Path, fields: str, names: tuple[str, ...]
) -> None:
    found = read_wheel(wheel(tmp_path, META + fields, texts={"LICENSE.md": b"text", "entry_points.txt": b""}))

    assert found.expression is None
    assert found.license_names == names
    assert found.texts == ("text\n",)


@pytest.mark.parametrize("metadata", ["Name: a\n", "Version: 1\n", ""])
def test_a_wheel_without_name_or_version_is_refused(tmp_path: Path, metadata: str) -> None:
    with pytest.raises(SourceFailed, match="names no package"):
        read_wheel(wheel(tmp_path, metadata))


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    path.write_bytes(b"noise")
    with pytest.raises(SourceFailed, match="not a zip"):
        read_wheel(path)
    with pytest.raises(SourceFailed, match="No such file"):
        read_wheel(tmp_path / "absent.whl")
    empty = wheel(tmp_path, META)
    content = empty.read_bytes().replace(b"METADATA", b"METADATX")
    empty.write_bytes(content)
    with pytest.raises(SourceFailed, match="has no METADATA"):
        read_wheel(empty)


def test_a_licence_text_that_is_a_bomb_is_read_to_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_TEXT_BYTES", 1000)

    found = read_wheel(wheel(tmp_path, META, texts={"LICENSE": b"x" * 1_000_000}))

    assert len(found.texts[0]) == 1001


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_a_debian_package_gives_its_copyright_file(tmp_path: Path, compression: str) -> None:
    text = b"Files: *\nLicense: GPL-2+\n text\n\nFiles: debian/*\nLicense: Expat\n\nLicense: GPL-2+\n long text\n"
    files = {"usr/lib/x.so": b"1" * 5000, "usr/share/doc/libx+/copyright": text, "usr/share/doc/libx+/NEWS": b""}

    found = read_deb(deb(tmp_path, CONTROL, files=files, compression=compression))

    assert (found.name, found.version) == ("libx+", "1:2.0+b1~rc")
    assert found.purl == "pkg:deb/debian/libx%2B@1%3A2.0%2Bb1~rc?arch=amd64"
    assert found.license_names == ("GPL-2+", "Expat")
    assert found.texts == (text.decode(),)
    assert found.texts_of is None


@pytest.mark.parametrize(
    "links", [{"usr/share/doc/libx+": "gcc-12-base"}, {"usr/share/doc/libx+/copyright": "../gcc-12-base/copyright"}]
)
def test_a_debian_package_that_points_to_another_says_which(tmp_path: Path, links: dict[str, str]) -> None:
    found = read_deb(deb(tmp_path, CONTROL, links=links))

    assert (found.texts, found.texts_of) == ((), "gcc-12-base")


def test_a_debian_package_without_copyright_has_an_unknown_licence(tmp_path: Path) -> None:
    found = read_deb(deb(tmp_path, CONTROL, files={"usr/bin/x": b""}))

    assert (found.license_names, found.texts, found.texts_of) == ((), (), None)


def test_reading_a_package_stops_at_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_MEMBERS", 1)
    files = {f"usr/{number}": b"" for number in range(9)} | {"usr/share/doc/libx+/copyright": b"text"}

    assert read_deb(deb(tmp_path, CONTROL, files=files)).texts == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no ar archive"),
        (b"noise" * 100, "no ar archive"),
        (b"!<arch>\n", "control file cannot be read"),
        (b"!<arch>\n" + ar_member("control.tar.zst", b"1234"), "control file cannot be read"),
        (b"!<arch>\n" + ar_member("control.tar.xz", b"1234"), "."),
        (b"!<arch>\n" + ar_member("control.tar.xz", b"1234", size=-1), "negative size"),
        (b"!<arch>\n" + b"x" * 60, "invalid literal"),
    ],
)
def test_what_is_no_debian_package_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(content)

    with pytest.raises(SourceFailed, match=told):
        read_deb(path)


def test_a_debian_package_packed_with_zstd_is_known_by_its_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "nvidia-open_1%3a580.65.06-1_amd64.deb"
    path.write_bytes(b"!<arch>\n" + ar_member("control.tar.zst", b"1234"))

    found = read_deb(path)

    assert (found.name, found.version) == ("nvidia-open", "1:580.65.06-1")
    assert found.purl == "pkg:deb/debian/nvidia-open@1%3A580.65.06-1?arch=amd64"
    assert (found.license_names, found.texts) == ((), ())


def test_a_debian_package_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="names no package"):
        read_deb(deb(tmp_path, "Architecture: all\n"))
