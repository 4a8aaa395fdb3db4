"""A real directory: OpenLDAP's slapd from Debian's archive, unpacked and run on loopback, never installed.

Installing the package would start a server for all the network; here its files lie under `.build/`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import make_loopback_tls

BUILD = Path(__file__).parents[2] / ".build" / "slapd"
REQUIRE = Path(__file__).parents[1] / "support" / "require.sh"
LIBRARIES = ("libldap-2.5-0", "libltdl7", "libsasl2-2", "libwrap0")
"""What slapd is linked with; a machine may lack some of it, and these start nothing."""
ADMIN, ADMIN_PASSWORD = "cn=leeward,dc=site", "own secret"
PASSWORD = "correct horse"  # noqa: S105  of nobody but this directory
START_TIMEOUT_S = 20

ENTRIES = f"""\
dn: dc=site
objectClass: dcObject
objectClass: organization
dc: site
o: Site

dn: ou=people,dc=site
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=site
objectClass: organizationalUnit
ou: groups

dn: uid=jane,ou=people,dc=site
objectClass: inetOrgPerson
uid: jane
cn: Jane Doe
sn: Doe
userPassword: {PASSWORD}

dn: uid=john (temp),ou=people,dc=site
objectClass: inetOrgPerson
uid: john (temp)
cn: twin
sn: Doe
userPassword: {PASSWORD}

dn: uid=bare,ou=people,dc=site
objectClass: inetOrgPerson
uid: bare
cn: twin
sn: Bare

dn: cn=llm-research,ou=groups,dc=site
objectClass: groupOfNames
cn: llm-research
member: uid=jane,ou=people,dc=site

dn: ou=elsewhere,dc=site
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://127.0.0.1:REFERRAL/ou=elsewhere,dc=site
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slapd:
    port: int
    authority: Path
    referral: socket.socket

    def was_referral_followed(self) -> bool:
        try:
            self.referral.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@contextmanager
def served(folder: Path) -> Iterator[Slapd]:
    """Run a directory with two people, a group and a referral."""
    root, tls, port = unpacked(), make_loopback_tls(folder), _free_port()
    with socket.create_server(("127.0.0.1", 0)) as referral:
        referral.settimeout(0)
        (folder / "data").mkdir()
        configuration, entries = folder / "slapd.conf", folder / "entries.ldif"
        entries.write_text(ENTRIES.replace("REFERRAL", str(referral.getsockname()[1])))
        configuration.write_text(_configuration(root, folder))
        environment = os.environ | {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu")}
        program = str(root / "usr/sbin/slapd")
        add = [program, "-T", "add", "-f", str(configuration), "-l", str(entries)]
        done = subprocess.run(add, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        places = f"ldaps://127.0.0.1:{port} ldaps://127.0.0.2:{port}"
        with subprocess.Popen(
            [program, "-h", places, "-f", str(configuration), "-d", "0"], env=environment, stderr=subprocess.PIPE
        ) as server:
            try:
                _wait_for(port, server)
                yield Slapd(port=port, authority=tls.authority, referral=referral)
            finally:
                server.terminate()


def unpacked() -> Path:
    """Fetch and unpack the package, unless that was done before."""
    subprocess.run([str(REQUIRE), *LIBRARIES], check=True)
    if (BUILD / "done").exists():
        return BUILD
    BUILD.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "download", "-qq", "slapd"]
    if subprocess.run(fetch, cwd=BUILD, check=False, capture_output=True).returncode != 0:  # the lists are old or away
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        subprocess.run(fetch, cwd=BUILD, check=True, capture_output=True)
    for package in BUILD.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(BUILD)], check=True)
    (BUILD / "done").touch()
    return BUILD


def _configuration(root: Path, folder: Path) -> str:
    schemas = "".join(f"include {root}/etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
    return f"""{schemas}
modulepath {root}/usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCACertificateFile {folder}/ca.crt
TLSCertificateFile {folder}/server.crt
TLSCertificateKeyFile {folder}/server.key
pidfile {folder}/slapd.pid
database mdb
suffix dc=site
rootdn {ADMIN}
rootpw "{ADMIN_PASSWORD}"
directory {folder}/data
maxsize 10485760
overlay memberof
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    while True:
        assert server.poll() is None, server.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() - begun < START_TIMEOUT_S
            time.sleep(0.02)
        else:
            return
