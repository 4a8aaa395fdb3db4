"""The ledger's schema, one revision a module; run by `sql_ledger.database`."""
