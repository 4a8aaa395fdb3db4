"""The real NVIDIA driver, compiled on a node for the node's own kernel. Minutes of compiling.

No GPU is needed for that, and none is simulated: the modules are compiled, installed and frozen with
their kernel, not loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.domain.errors import PlaybookFailed
from bundles.sources import SourceContext, make_source
from tests.lab import Lab
from tests.roles.conftest import CHECKOUT, SLOT_PATH, Site, put_appliance, site_of
from tests.roles.namespaces import inside
from tests.roles.slot import make_slot

pytestmark = [pytest.mark.node, pytest.mark.timeout(2400)]

VERSION = "535.261.03-1"
PACKAGES = ["nvidia-open-kernel-dkms", "nvidia-smi", "libnvidia-ml1", "libcuda1", "nvidia-driver-bin"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("driver")
    make_slot(folder / "slot")
    packages = folder / "slot/os/debian-12"
    packages.mkdir(parents=True)
    with Lab(folder / "lab") as lab:
        node = lab.create("driver", with_kernel=True)
        node.up()
        kernel = node.ssh("ls /boot/vmlinuz-*").stdout.strip().removeprefix("/boot/vmlinuz-")
        driver = {"version": VERSION, "packages": PACKAGES, "kernels": [kernel]}
        context = SourceContext(recipe_folder=CHECKOUT, cache=CHECKOUT / ".cache", progress=lambda *_: None)
        make_source({"kind": "debian", "suite": "bookworm", "driver": driver}, context).fetch(packages)
        node.copy_to(folder / "slot", SLOT_PATH)
        put_appliance(node)
        with inside(node.exec_prefix[-1]):
            yield site_of(node, Path(folder))


def test_a_driver_for_another_kernel_is_refused_before_anything_is_installed(site: Site) -> None:
    contents = f"{SLOT_PATH}/os/debian-12/leeward-os.json"
    site.node.ssh(f"cp {contents} /root/kept && sed -i 's/6[.]1[.]0-[0-9]*-amd64/5.0.0-1-amd64/' {contents}")

    with pytest.raises(PlaybookFailed) as refused:
        site.apply(nvidia_driver_enabled=True)

    site.node.ssh(f"cp /root/kept {contents}")
    assert "compiled for 5.0.0-1-amd64" in refused.value.detail
    assert not site.host.package("dkms").is_installed


def test_the_driver_is_compiled_for_the_kernel_and_frozen_with_it(site: Site) -> None:
    result = site.apply(nvidia_driver_enabled=True)
    print("seconds by role:", site.seconds_by_role())  # noqa: T201  the figure of the run, for the report

    status = site.node.ssh("dkms status").stdout
    held = site.node.ssh("apt-mark showhold").stdout.split()
    assert result.failed == 0
    assert VERSION.partition("-")[0] in status
    assert "installed" in status
    assert {"nvidia-open-kernel-dkms", "libcuda1"} <= set(held)
    assert any(name.startswith("linux-image-") for name in held)
    assert site.node.ssh("lsmod | grep -c '^nvidia'", check=False).stdout.strip() in {"0", ""}


def test_a_second_run_with_the_driver_changes_nothing(site: Site) -> None:
    assert site.apply(nvidia_driver_enabled=True).changed == 0
