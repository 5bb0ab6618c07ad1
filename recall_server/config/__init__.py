"""How a server is set up: settings, API keys, network exposure, a Ray cluster, logs."""

from __future__ import annotations

from recall_server.config.api_keys import ApiKey, ApiKeys, Scope, check_scope
from recall_server.config.logs import configure_logs
from recall_server.config.network_exposure import cluster_refusal, exposure_refusal, trusts_this_machine_only
from recall_server.config.settings import Settings, rate

__all__ = [
    "ApiKey",
    "ApiKeys",
    "Scope",
    "Settings",
    "check_scope",
    "cluster_refusal",
    "configure_logs",
    "exposure_refusal",
    "rate",
    "trusts_this_machine_only",
]
