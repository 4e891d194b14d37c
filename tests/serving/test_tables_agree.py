"""The tables that name endpoints, handlers, deployments and models agree. Else only a start of Ray would show it."""

from typing import Any

from ray.serve import Deployment

from models.contract.endpoints import ENDPOINTS
from models.registry.champions import shipped_models
from serving import deployments
from serving.deployment_config import MODELS_BY_DEPLOYMENT
from serving.endpoint_handlers import HANDLERS
from serving.placement import DEPLOYMENTS


def _declared() -> set[str]:
    found: list[Any] = [one for one in vars(deployments).values() if isinstance(one, Deployment)]
    return {one.name for one in found}


def test_every_endpoint_has_a_handler() -> None:
    assert set(HANDLERS) == {endpoint.call for endpoint in ENDPOINTS} - {"transcribe"}


def test_every_deployment_has_a_cpu_share_and_every_share_a_deployment() -> None:
    assert _declared() == set(DEPLOYMENTS)


def test_every_deployment_loads_models_that_are_shipped() -> None:
    assert set(MODELS_BY_DEPLOYMENT) <= set(DEPLOYMENTS)
    assert {name for held in MODELS_BY_DEPLOYMENT.values() for name in held} <= set(shipped_models())


def test_every_shipped_model_is_loaded_by_a_deployment() -> None:
    with_artefact = {name for name, model in shipped_models().items() if model.path is not None}
    assert with_artefact == {name for held in MODELS_BY_DEPLOYMENT.values() for name in held}


def test_what_is_configured_of_a_deployment_is_what_it_loads() -> None:
    reconfigured = {name for name in _declared() if hasattr(_class_of(name), "reconfigure")}
    assert reconfigured == set(MODELS_BY_DEPLOYMENT)


def _class_of(name: str) -> Any:
    (found,) = (one for one in vars(deployments).values() if isinstance(one, Deployment) and one.name == name)
    return found.func_or_class
