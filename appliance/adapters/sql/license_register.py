"""Licence terms and attestations in `leeward.db`.

Adding the same value again stores nothing, so that a step which runs twice records once.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from appliance.adapters.sql.database import Database
from appliance.adapters.sql.tables import attestation, from_text, license_terms, to_text
from appliance.domain.license import Attestation, LicenseTerms, RevenueBand


class SqlLicenseRegister:
    """`appliance.ports.LicenseRegister` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_terms(self, terms: LicenseTerms) -> None:
        """Store the terms of one licence text of one release."""
        row = {
            "spdx_id": terms.spdx_id,
            "applies_to": terms.applies_to,
            "text_sha256": terms.text_sha256,
            "threshold_usd_monthly": terms.threshold_usd_monthly,
            "release": terms.release,
        }
        with self._database.write() as connection:
            connection.execute(insert(license_terms).values(row).on_conflict_do_nothing())

    def add_attestation(self, made: Attestation) -> None:
        """Store a person's statement."""
        row = {
            "use_month": made.use_month,
            "band": made.band.value,
            "legal_entity": made.legal_entity,
            "signatory": made.signatory,
            "role": made.role,
            "made_at": to_text(made.made_at),
            "recorded_by": made.recorded_by,
        }
        with self._database.write() as connection:
            connection.execute(insert(attestation).values(row).on_conflict_do_nothing())

    def terms(self) -> tuple[LicenseTerms, ...]:
        """Return all terms in the order in which they came."""
        with self._database.read() as connection:
            rows = connection.execute(select(license_terms).order_by(license_terms.c.id)).all()
        return tuple(
            LicenseTerms(
                spdx_id=row.spdx_id,
                applies_to=row.applies_to,
                text_sha256=row.text_sha256,
                threshold_usd_monthly=row.threshold_usd_monthly,
                release=row.release,
            )
            for row in rows
        )

    def attestations(self) -> tuple[Attestation, ...]:
        """Return all statements in the order in which they were recorded."""
        with self._database.read() as connection:
            rows = connection.execute(select(attestation).order_by(attestation.c.id)).all()
        return tuple(
            Attestation(
                use_month=row.use_month,
                band=RevenueBand(row.band),
                legal_entity=row.legal_entity,
                signatory=row.signatory,
                role=row.role,
                made_at=from_text(row.made_at),
                recorded_by=row.recorded_by,
            )
            for row in rows
        )
