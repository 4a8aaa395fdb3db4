from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import Lab, LabUnavailable, requirements
from tests.lab.requirements import missing_requirements

DEBIAN_12 = 'ID=debian\nVERSION_ID="12"\n'
ALL = frozenset({"network namespaces", "mount namespaces", "loop devices"})


def test_root_on_debian_12_with_namespaces_lacks_nothing() -> None:
    assert missing_requirements(user_id=0, os_release=DEBIAN_12, kernel_has=ALL, has_cgroup2=True) == ()


def test_everything_that_is_missing_is_said_at_once() -> None:
    missing = missing_requirements(
        user_id=1000,
        os_release='ID="fedora"\nVERSION_ID=43\n',
        kernel_has=frozenset({"mount namespaces"}),
        has_cgroup2=False,
    )

    assert missing == (
        "root is needed, this is user 1000",
        "Debian 12 is needed, this is fedora 43",
        "the kernel has no network namespaces",
        "the kernel has no loop devices",
        "no cgroup2 hierarchy is mounted",
    )


def test_a_machine_that_does_not_say_what_it_is_is_refused() -> None:
    missing = missing_requirements(user_id=0, os_release="", kernel_has=ALL, has_cgroup2=True)

    assert missing == ("Debian 12 is needed, this is unknown",)


def test_without_root_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(requirements, "run", lambda *_, **__: pytest.fail("a tool was run"))
    lab = Lab(tmp_path / "lab", cache=tmp_path / "cache")

    for attempt in (lab.require, lab.base, lab.sweep, lambda: lab.create("n1")):
        with pytest.raises(LabUnavailable, match="root is needed"):
            attempt()

    assert list(tmp_path.iterdir()) == []


def test_importing_the_lab_does_nothing_on_the_machine() -> None:
    watched = "import subprocess; subprocess.Popen = None; import tests.lab, tests.lab.__main__"

    subprocess.run([sys.executable, "-c", watched], check=True)


def test_tools_that_are_there_are_not_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "run", lambda *_, **__: pytest.fail("apt was asked"))

    requirements.install_tools({"sh": "dash"})


def test_missing_tools_are_installed_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(requirements, "run", lambda argv: asked.append(list(argv)))

    requirements.install_tools({"sh": "dash", "no-such-tool-b": "b", "no-such-tool-a": "a", "no-such-tool-c": "a"})

    assert asked[0][-1] == "update"
    assert asked[1][-4:] == ["-y", "--no-install-recommends", "a", "b"]
    assert len(asked) == 2
