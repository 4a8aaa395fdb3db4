"""`python -m appliance.checks`: print docs/preflight.md, made from the checks themselves."""

from __future__ import annotations

import sys

from appliance.checks.table import page

sys.stdout.write(page())
