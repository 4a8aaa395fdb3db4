"""The rpm source with real rpms, real signatures and the real createrepo_c."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Template

from bundles.errors import RecipeInvalid, SourceFailed
from bundles.sources import SourceContext, make_source
from tests.lab.requirements import install_tools
from tests.roles.conftest import CHECKOUT
from tests.unit.sources.packages import FOLDER, RpmSigner, make_rpm

pytestmark = pytest.mark.node  # installs rpm's tools where they are missing, and so needs root

KERNEL = "5.14.0-570.el9.x86_64"
DRIVER = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms")


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    install_tools(
        {"rpmbuild": "rpm", "rpm2cpio": "rpm2cpio", "cpio": "cpio", "createrepo_c": "createrepo-c", "dnf": "dnf"}
    )


@pytest.fixture
def nvidia(tmp_path: Path) -> Iterator[RpmSigner]:
    signer = RpmSigner(tmp_path / "nvidia-home")
    yield signer
    signer.close()


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[RpmSigner]:
    signer = RpmSigner(tmp_path / "vendor-home")
    yield signer
    signer.close()


class Builder:
    """A build host's folder: NVIDIA's local repository rpm and the vendor's packages beside it."""

    def __init__(self, root: Path, nvidia: RpmSigner, vendor: RpmSigner) -> None:
        self.root, self.nvidia, self.vendor = root, nvidia, vendor
        self.others = root / "rhel-9"
        self.others.mkdir()
        (self.others / "RPM-GPG-KEY-vendor").write_text(vendor.public())
        vendor.sign(make_rpm(self.others, name="dkms", version="3.2.1"))
        vendor.sign(make_rpm(self.others, name="kernel-devel", version="5.14.0", release="570.el9"))
        self.driver = root / "driver"
        self.driver.mkdir()
        for name in DRIVER:
            nvidia.sign(make_rpm(self.driver, name=name, version="580.95.05", extra="Epoch: 3"))

    def fetch(self) -> Path:
        local = self._local_package()
        digest = hashlib.sha256(local.read_bytes()).hexdigest()
        (self.root / "r580.toml").write_text(
            f'schema = "leeward-driver/1"\nversion = "580.95.05"\nfolder = "."\n[systems.rhel-9]\n'
            f'kernels = ["{KERNEL}"]\npackages = {list(DRIVER)}\n'
            f'archives = [{{ file = "{local.name}", sha256 = "{digest}", key = "{self.nvidia.fingerprint}" }}]\n'
        )
        into = self.root / "os"
        into.mkdir(exist_ok=True)
        context = SourceContext(recipe_folder=self.root, cache=self.root / "cache", progress=lambda *_: None)
        table = {"kind": "rpm", "folder": "rhel-9", "keys": [self.vendor.fingerprint]}
        make_source({**table, "driver": {"set": "r580.toml", "system": "rhel-9"}}, context).fetch(into)
        return into

    def _local_package(self) -> Path:
        spec = (
            "Name: nvidia-driver-local-repo-rhel9-580.95.05\nVersion: 1.0\nRelease: 1\nSummary: r\nLicense: MIT\n"
            f"%description\nx\n%install\nmkdir -p %{{buildroot}}/{FOLDER}/repodata\n"
            f"cp {self.driver}/*.rpm %{{buildroot}}/{FOLDER}/\ntouch %{{buildroot}}/{FOLDER}/repodata/repomd.xml\n"
            f"cp {self.root}/nvidia.pub %{{buildroot}}/{FOLDER}/D42D0685.pub\n%files\n/{FOLDER}\n"
        )
        (self.root / "nvidia.pub").write_text(self.nvidia.public())
        (self.root / "local.spec").write_text(spec)
        macros = ["--define", f"_topdir {self.root}/local", "--target", "x86_64-linux"]
        subprocess.run(
            ["rpmbuild", "--quiet", "-bb", *macros, str(self.root / "local.spec")], check=True, capture_output=True
        )
        (made,) = (self.root / "local").rglob("*.rpm")
        return made.rename(self.root / made.name)


@pytest.fixture
def builder(tmp_path: Path, nvidia: RpmSigner, vendor: RpmSigner) -> Builder:
    return Builder(tmp_path, nvidia, vendor)


def test_a_repository_holds_the_driver_what_it_needs_and_both_signatures(builder: Builder) -> None:
    into = builder.fetch()

    contents = json.loads((into / "leeward-os.json").read_text())
    assert {path.name.rpartition("-")[0].rpartition("-")[0] for path in (into / "Packages").iterdir()} == {
        *DRIVER,
        "dkms",
        "kernel-devel",
    }
    assert contents["family"] == "redhat"
    assert contents["driver"]["packages"] == dict.fromkeys(sorted(DRIVER), "3:580.95.05-1.el9")
    assert (into / "leeward-os-packages.asc").read_text().count("BEGIN PGP PUBLIC KEY") == 2
    index, signature = into / "repodata/repomd.xml", into / "repodata/repomd.xml.asc"
    assert _verifies(into / "leeward-os.asc", signature, index)
    index.write_text(index.read_text().replace("primary", "primarY", 1))
    assert not _verifies(into / "leeward-os.asc", signature, index)


def test_dnf_installs_from_it_as_the_role_configures_it(builder: Builder, tmp_path: Path) -> None:
    done = _dnf(tmp_path, builder.fetch())

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "node/usr/share/leeward-test/kmod-nvidia-open-dkms").read_text() == "580.95.05\n"


@pytest.mark.parametrize("path", ["repodata/repomd.xml", "Packages/kmod-nvidia-open-dkms-580.95.05-1.el9.x86_64.rpm"])
def test_dnf_refuses_a_repository_or_a_package_that_is_not_what_was_signed(
    builder: Builder, tmp_path: Path, path: str
) -> None:
    tampered = builder.fetch() / path
    content = bytearray(tampered.read_bytes())
    content[-20] ^= 1
    tampered.unlink()  # the file is shared with the archive, by a hard link
    tampered.write_bytes(content)

    done = _dnf(tmp_path, tampered.parents[1])

    assert done.returncode != 0
    assert not (tmp_path / "node/usr/share/leeward-test").exists()


def _dnf(scratch: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    """Install the driver into an empty root, with the repository file that the role's template gives."""
    template = (CHECKOUT / "playbooks/roles/nvidia_driver/templates/leeward.repo.j2").read_text()
    (scratch / "repos").mkdir()
    (scratch / "repos/leeward.repo").write_text(Template(template).render(nvidia_driver_repository=str(repository)))
    command = ["dnf", "--assumeyes", f"--installroot={scratch}/node", "--releasever=9", "--disablerepo=*"]
    command += ["--enablerepo=leeward", f"--setopt=reposdir={scratch}/repos", f"--setopt=cachedir={scratch}/cached"]
    named = [f"{name}-3:580.95.05-1.el9" for name in DRIVER]
    done = subprocess.run([*command, "install", *named], check=False, capture_output=True, text=True)
    for home in (scratch / "cached").rglob("pubring"):  # dnf leaves an agent behind
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    return done


def test_a_second_fetch_makes_the_same_index(builder: Builder) -> None:
    first = (builder.fetch() / "repodata/repomd.xml").read_bytes()

    assert (builder.fetch() / "repodata/repomd.xml").read_bytes() == first


def test_an_unsigned_package_is_refused_by_name_and_nothing_is_delivered(builder: Builder) -> None:
    make_rpm(builder.others, name="gcc", version="11.5.0")

    with pytest.raises(SourceFailed, match="gcc"):
        builder.fetch()

    assert list((builder.root / "os").iterdir()) == []


def test_a_package_signed_by_a_key_that_was_not_named_is_refused(builder: Builder, tmp_path: Path) -> None:
    stranger = RpmSigner(tmp_path / "stranger")
    stranger.sign(make_rpm(builder.others, name="gcc", version="11.5.0"))
    stranger.close()

    with pytest.raises(SourceFailed):
        builder.fetch()

    assert list((builder.root / "os").iterdir()) == []


def test_a_flipped_bit_in_a_package_is_refused(builder: Builder) -> None:
    (rpm,) = builder.others.glob("dkms-*.rpm")
    content = bytearray(rpm.read_bytes())
    content[-10] ^= 1
    rpm.write_bytes(content)

    with pytest.raises(SourceFailed):
        builder.fetch()

    assert list((builder.root / "os").iterdir()) == []


def test_what_the_driver_needs_to_be_compiled_is_named_where_it_is_missing(builder: Builder) -> None:
    for rpm in builder.others.glob("*.rpm"):
        rpm.unlink()

    with pytest.raises(SourceFailed, match=f"dkms: missing, kernel-devel-{KERNEL}: missing"):
        builder.fetch()


def test_a_driver_in_another_version_is_not_taken_for_it(builder: Builder) -> None:
    for rpm in builder.driver.glob("*.rpm"):
        rpm.unlink()
    builder.nvidia.sign(make_rpm(builder.driver, name=DRIVER[0], version="570.10.01"))

    with pytest.raises(SourceFailed, match=r"kmod-nvidia-open-dkms: missing, nvidia-driver-cuda: 570\.10\.01"):
        builder.fetch()


@pytest.mark.parametrize("table", [{}, {"driver": False}, {"folder": "x"}, {"keys": ["A" * 40]}])
def test_a_source_without_a_driver_or_with_half_a_folder_is_refused(tmp_path: Path, table: dict[str, object]) -> None:
    context = SourceContext(recipe_folder=tmp_path, cache=tmp_path, progress=lambda *_: None)
    driver = {"version": "1", "packages": ["a"], "kernels": ["k"]}

    with pytest.raises(RecipeInvalid):
        make_source({"kind": "rpm", "driver": driver if table.keys() & {"folder", "keys"} else False, **table}, context)


def _verifies(keyring: Path, signature: Path, content: Path) -> bool:
    binary = keyring.with_suffix(".test.gpg")
    subprocess.run(["gpg", "--batch", "--yes", "--dearmor", "--output", str(binary), str(keyring)], check=True)
    command = ["gpgv", "--keyring", str(binary), str(signature), str(content)]
    done = subprocess.run(command, check=False, capture_output=True)
    return done.returncode == 0
