"""`leeward.db`: operations and their events, the audit log and the licence register, on SQLite."""

from appliance.adapters.sql.audit_log import SqlAuditLog
from appliance.adapters.sql.database import Database
from appliance.adapters.sql.journal import SqlJournal
from appliance.adapters.sql.license_register import SqlLicenseRegister

__all__ = ["Database", "SqlAuditLog", "SqlJournal", "SqlLicenseRegister"]
