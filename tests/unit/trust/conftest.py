from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pkcs11
import pytest

from bundles.keys import Keyring
from tests.support.small_bundles import NOW
from tests.unit.bundles.site import Site

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "271828"
LABEL = "Leeward trial"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys that every test gets its own copy of."""
    return Keyring.create(tmp_path_factory.mktemp("made") / "keys", now=NOW, weights=True).directory


@pytest.fixture
def keyring(tmp_path: Path, made_once: Path) -> Keyring:
    shutil.copytree(made_once, tmp_path / "keys")
    return Keyring.load(tmp_path / "keys")


@pytest.fixture
def site(tmp_path: Path, keyring: Keyring) -> Site:
    return Site.trusting(tmp_path / "site", keyring)


@dataclass(frozen=True, slots=True)
class Token:
    """A SoftHSM2 token: a real PKCS #11 module without the hardware."""

    session: pkcs11.Token

    def make_key(self, number: int, curve: str = "secp384r1") -> str:
        """Make a key pair on the token and return its place."""
        parameters = pkcs11.util.ec.encode_named_curve_parameters(curve)
        with self.session.open(user_pin=PIN, rw=True) as session:
            domain = session.create_domain_parameters(
                pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: parameters}, local=True
            )
            domain.generate_keypair(
                mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN,
                store=True,
                id=pkcs11.util.biginteger(number),
                label=f"key {number}",
            )
        return f"hsm:{number}?label={LABEL.replace(' ', '+')}"


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """One token for all tests: a PKCS #11 module is initialised once in a process."""
    if not MODULE.is_file():
        pytest.fail(f"{MODULE} is missing: apt-get install softhsm2")
    folder = tmp_path_factory.mktemp("softhsm")
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}\nobjectstore.backend = file\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configuration))
        patch.setenv("PYKCS11LIB", str(MODULE))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "31415926"],
            check=True,
            capture_output=True,
            env={**os.environ},
        )
        yield Token(pkcs11.lib(str(MODULE)).get_token(token_label=LABEL))
