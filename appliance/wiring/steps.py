"""The steps of every operation, each with the adapters it works through."""

from __future__ import annotations

from appliance.adapters.acceptance import EngineBurnIn, EngineLoadMeter
from appliance.config import Paths
from appliance.domain.acceptance import bands_from_toml
from appliance.domain.operation import StepName
from appliance.resources import gpu_bands
from appliance.services.steps import Step
from appliance.services.steps.acceptance import BurnInStep, MeasureStep
from appliance.services.steps.evidence import CollectStep, SignStep
from appliance.services.steps.intake import ImportPlaces, ImportStep
from appliance.services.steps.license import LicenseStep
from appliance.services.steps.plan import PlanStep
from appliance.services.steps.preflight import PreflightStep
from appliance.services.steps.provision import ProvisionStep, SiteVariables
from appliance.services.steps.reboot import RebootStep
from appliance.services.steps.removal import RemovalStep
from appliance.services.steps.smoke_test import SmokeTestStep
from appliance.services.steps.start import StartStep
from appliance.wiring.evidence import evidence_exports
from appliance.wiring.parts import Parts

ENGINE_ACCOUNT = "leeward-engine"


def steps_of(parts: Parts) -> dict[StepName, Step]:
    """Return every step by its name."""
    world, slots, exports = parts.world, parts.slots, evidence_exports(parts)
    site = SiteVariables(gateway_port=parts.settings.gateway.port, roles=parts.settings.role_variables)
    provision = ProvisionStep(
        slots=slots,
        probe=world.probe,
        runner=world.runner,
        make_ledger=parts.ledger.make,
        audit=parts.audit,
        site=site,
        boot=world.boot,
        plans=parts.plans,
    )
    return {
        StepName.PREFLIGHT: PreflightStep(world.probe, slots=slots, audit=parts.audit, meter=world.meter),
        StepName.IMPORT: _import(parts),
        StepName.LICENSE: LicenseStep(slots=slots, compliance=parts.compliance, register=parts.register),
        StepName.PROVISION: provision,
        StepName.REBOOT: RebootStep(
            boot=world.boot, journal=parts.journal, services=world.services, provision=provision
        ),
        StepName.START: StartStep(slots=slots, services=world.services, engine=world.engine),
        StepName.SMOKE_TEST: SmokeTestStep(
            slots=slots, keys=parts.keys, usage=parts.ledger.usage, gateway=world.gateway
        ),
        StepName.COLLECT: CollectStep(exports),
        StepName.SIGN: SignStep(exports),
        StepName.PLAN: _plan(parts, site),
        StepName.REMOVE: RemovalStep(
            slots=slots, probe=world.probe, runner=world.runner, node=parts.settings.node_name
        ),
        StepName.BURN_IN: _burn_in(parts),
        StepName.MEASURE: _measure(parts),
    }


def _import(parts: Parts) -> ImportStep:
    return ImportStep(
        places=_import_places(parts.settings.paths),
        slots=parts.slots,
        audit=parts.audit,
        clock=parts.clock,
        custody=parts.custody,
        scanner=parts.world.scanner,
    )


def _import_places(paths: Paths) -> ImportPlaces:
    return ImportPlaces(trust=paths.trust, store=paths.store, slots=paths.slots, staging=paths.data / "staging")


def _plan(parts: Parts, site: SiteVariables) -> PlanStep:
    return PlanStep(
        slots=parts.slots,
        probe=parts.world.probe,
        runner=parts.world.runner,
        boot=parts.world.boot,
        journal=parts.journal,
        clock=parts.clock,
        plans=parts.plans,
        site=site,
        node=parts.settings.node_name,
    )


def _burn_in(parts: Parts) -> BurnInStep:
    paths, world = parts.settings.paths, parts.world
    burn_in = world.burn_in or EngineBurnIn(
        python=paths.engine_environments / "current/bin/python",
        cache=paths.root / "var/cache/leeward-engine",
        account=ENGINE_ACCOUNT,
    )
    return BurnInStep(
        slots=parts.slots,
        services=world.services,
        probe=world.probe,
        burn_in=burn_in,
        store=parts.passport_folder,
        journal=parts.journal,
    )


def _measure(parts: Parts) -> MeasureStep:
    return MeasureStep(
        slots=parts.slots,
        probe=parts.world.probe,
        meter=parts.world.load or EngineLoadMeter(parts.settings.paths.engine_socket),
        store=parts.passport_folder,
        audit=parts.audit,
        bands=bands_from_toml(gpu_bands()),
        node=parts.settings.node_name,
        simulated=parts.world.simulated,
    )
