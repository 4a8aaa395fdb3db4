"""The composition root of the management daemon: settings in, services out.

Which adapter stands behind which port is decided in this package and nowhere else:

    world.py       the adapters that touch the node, and their twins
    parts.py       registers, folders and services that several others share
    ledger.py      the ledger, opened when it is first needed
    steps.py       the steps of every operation
    evidence.py    what an evidence export is collected from
    management.py  all of it together, for the management API

One thing may be simulated, GPUs: with `simulation.nvml` set, a twin of NVML is loaded, what is read
through it is marked, and status, facts and health all say so.
"""

from appliance.wiring.management import management_of
from appliance.wiring.world import World, real_world

__all__ = ["World", "management_of", "real_world"]
