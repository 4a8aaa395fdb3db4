"""What an evidence export is collected from, and where it is made."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from appliance.adapters.slots import MANIFEST
from appliance.services.evidence import EvidencePorts
from appliance.services.exports import EvidenceExports, ExportPlaces
from appliance.wiring.parts import Parts


def evidence_exports(parts: Parts) -> EvidenceExports:
    """Return the exports of this node."""
    paths = parts.settings.paths
    ports = EvidencePorts(
        audit=parts.audit,
        usage=parts.ledger.usage,
        key_register=parts.ledger.register,
        licenses=parts.register,
        journal=parts.journal,
        probe=parts.world.probe,
        release_json=partial(_current_manifest, paths.current_slot),
        egress=parts.egress.look,
        posture=parts.posture.findings,
        receipts=parts.custody.files,
        passports=parts.passports.views,
    )
    places = ExportPlaces(keys=paths.evidence_keys, work=paths.data / "state/exports")
    return EvidenceExports(ports, places, node=parts.settings.node_name)


def _current_manifest(slot: Path) -> bytes | None:
    try:
        return (slot / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
