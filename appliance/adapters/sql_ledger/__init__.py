"""The ledger: teams, API keys, quotas and usage records in one SQLite file, append-only by trigger."""

from appliance.adapters.sql_ledger.database import create_ledger, open_ledger
from appliance.adapters.sql_ledger.keys import KeyLookup, SqlKeyRegister
from appliance.adapters.sql_ledger.reader import SqlUsageReader
from appliance.adapters.sql_ledger.tenancy import SqlTenancyRegister
from appliance.adapters.sql_ledger.writer import LedgerWriter

__all__ = [
    "KeyLookup",
    "LedgerWriter",
    "SqlKeyRegister",
    "SqlTenancyRegister",
    "SqlUsageReader",
    "create_ledger",
    "open_ledger",
]
