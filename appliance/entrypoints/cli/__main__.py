"""`python -m appliance.entrypoints.cli`: the same as `leeward`."""

from appliance.entrypoints.cli import main

main()
