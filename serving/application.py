"""The Serve application: the model API and its deployments. Ray imports `build` by its path."""

from typing import Any

from ray.serve import Application

from comms.kernel.settings import Settings
from serving import deployments
from serving.ingress import MODEL_API
from serving.placement import ReplicaSettings


def build(arguments: dict[str, str]) -> Application:
    """Builds the application graph. Ray calls this in a separate process, which reads the settings like every other."""
    del arguments  # Ray passes the arguments of the configuration, which has none
    placement = ReplicaSettings.of(Settings())
    configured_deployments: tuple[Any, ...] = (
        deployments.TranscriptionDeployment,
        deployments.DiarizationDeployment,
        deployments.SafeguardingDeployment,
        deployments.SentimentDeployment,
        deployments.ActionsDeployment,
        deployments.EmbeddingDeployment,
        deployments.SummarisationDeployment,
    )
    risk: Any = deployments.RiskDeployment
    return MODEL_API.bind(*(one.bind(placement) for one in configured_deployments), risk.bind())
