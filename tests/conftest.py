"""Settings that hold for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("leeward", deadline=None)  # a busy machine is no defect; pytest's timeout stays
settings.load_profile("leeward")
