"""Measures a node: the burn-in, the maker's diagnostics, a fixed load on the engine; and keeps passports."""

from appliance.adapters.acceptance.burn_in import EngineBurnIn
from appliance.adapters.acceptance.load import EngineLoadMeter
from appliance.adapters.acceptance.passports import PassportFolder

__all__ = ["EngineBurnIn", "EngineLoadMeter", "PassportFolder"]
