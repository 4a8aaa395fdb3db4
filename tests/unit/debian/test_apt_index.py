from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime

import pytest

from bundles.sources.apt_index import (
    PoolPackage,
    base_packages,
    dependencies,
    first_version,
    packages_index,
    pool_name,
    refreshed,
    release_file,
    render,
    stanzas,
)


def at_least(version: str, minimum: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", version, "ge", minimum], check=False).returncode == 0


def test_a_stanza_reads_back_as_it_was_written() -> None:
    text = "Package: a\nConffiles:\n /etc/a 1\nDescription: one\n two\n .\n three\n\n"

    assert "".join(render(stanza) for stanza in stanzas(text)) == text


def test_dependencies_keep_alternatives_versions_and_order() -> None:
    groups = dependencies({"Pre-Depends": "dpkg (>= 1.16~)", "Depends": "awk | mawk:any (<< 2), libc6 (= 2.36-9)"})

    assert [[(r.name, r.operator, r.version) for r in group] for group in groups] == [
        [("dpkg", ">=", "1.16~")],
        [("awk", "", ""), ("mawk", "<<", "2")],
        [("libc6", "=", "2.36-9")],
    ]


def test_the_base_is_what_is_essential_or_required_with_its_closure_and_nothing_else() -> None:
    available = {
        "bash": {"Package": "bash", "Essential": "yes", "Depends": "libtinfo, base-files"},
        "libtinfo": {"Package": "libtinfo", "Priority": "optional"},
        "base-files": {"Package": "base-files", "Priority": "required", "Pre-Depends": "awk"},
        "gawk": {"Package": "gawk", "Priority": "optional", "Provides": "awk"},
        "mawk": {"Package": "mawk", "Priority": "required", "Provides": "awk"},
        "vim": {"Package": "vim", "Priority": "optional"},
    }

    assert base_packages(available) == {"bash", "libtinfo", "base-files", "mawk"}


@pytest.mark.parametrize(
    ("version", "first"),
    [
        ("2.36-9+deb12u14", "2.36-9"),
        ("2.36-9", "2.36-9"),
        ("1:2.66-4+deb12u3+b1", "1:2.66-4"),
        ("3.0.22-1~deb12u2", None),
    ],
)
def test_the_first_version_of_a_stable_release_is_told_only_where_it_can_be(version: str, first: str | None) -> None:
    assert first_version(version) == first


@pytest.mark.parametrize(
    ("depends", "comes_along"),
    [
        ("libc6 (>= 2.34)", False),
        ("libc6", False),
        ("libc6 (<< 3)", False),
        ("libc6 (= 2.36-9+deb12u14)", True),
        ("libc6 (>= 2.36-9+deb12u4)", True),
        ("zlib1g (>= 2)", False),
    ],
)
def test_a_base_package_comes_along_only_where_an_old_node_may_lack_its_version(
    depends: str, *, comes_along: bool
) -> None:
    needed = refreshed([{"Package": "x", "Depends": depends}], {"libc6": "2.36-9+deb12u14"}, at_least)

    assert needed == ({"libc6"} if comes_along else set())


def test_a_base_package_of_unknown_beginnings_comes_along() -> None:
    base = {"libssl3": "3.0.22-1~deb12u2"}

    assert refreshed([{"Depends": "libssl3 (>= 3.0.0)"}], base, at_least) == {"libssl3"}


def test_a_file_in_the_pool_has_no_epoch_in_its_name() -> None:
    control = {"Package": "gcc", "Version": "4:12.2.0-3", "Architecture": "amd64"}

    assert pool_name(control) == "gcc_12.2.0-3_amd64.deb"


def test_the_index_is_the_same_in_whatever_order_the_files_come() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    pool = [
        PoolPackage(control={"Package": name}, filename=f"{name}.deb", size_bytes=1, sha256="0" * 64, built_at=at)
        for name in ("b", "a")
    ]

    assert packages_index(pool) == packages_index(pool[::-1])
    assert packages_index(pool).startswith("Package: a\nFilename: pool/a.deb\nSize: 1\nSHA256: 000")


def test_the_release_file_names_its_index_with_size_and_digest() -> None:
    index = b"Package: a\n"
    written = release_file(
        {"main/binary-amd64/Packages": index},
        architecture="amd64",
        date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )

    assert "Date: Fri, 02 Jan 2026 03:04:05 UTC\n" in written
    assert f"SHA256:\n {hashlib.sha256(index).hexdigest()} 11 main/binary-amd64/Packages\n" in written
