"""Whether the firmware knows the key with which the node signs the modules that it compiles itself.

shim shows the kernel the keys that were enrolled at the console (MokListRT, and further parts of it
with a number behind), and keeps what waits for MokManager in MokNew; both as files of efivarfs, here
read and not asked of mokutil. A certificate stands in the list byte for byte (UEFI 2.10, 32.4.1).
"""

from __future__ import annotations

from typing import Final

from appliance.adapters.host.tree import Tree

_KEYS: Final = ("var/lib/shim-signed/mok/MOK.der", "var/lib/dkms/mok.pub")
"""Ubuntu's own, which DKMS takes there; then the one that DKMS makes itself."""
_VARIABLES: Final = "sys/firmware/efi/efivars"
_SHIM: Final = "605dab50-e046-4300-abb6-3dd810dd8b23"


def module_key(tree: Tree) -> str | None:
    """Return `none`, `unknown`, `waiting` or `enrolled`; None where there are no variables of a firmware to ask."""
    names = tree.names(_VARIABLES)
    if not names:
        return None
    key = next((content for path in _KEYS if (content := tree.read(path))), None)
    if key is None:
        return "none"
    lists = [name for name in names if name.startswith("MokListRT") and name.endswith(_SHIM)]
    if any(key in (tree.read(f"{_VARIABLES}/{name}") or b"") for name in lists):
        return "enrolled"
    waiting = tree.read(f"{_VARIABLES}/MokNew-{_SHIM}") or b""
    return "waiting" if key in waiting else "unknown"
