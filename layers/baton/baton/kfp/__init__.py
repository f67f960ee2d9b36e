"""Kubeflow Pipelines, seen through the few calls that Baton needs; ``kfp_client(settings)`` is a sandbox's client."""

from baton.kfp.client import KfpClient
from baton.kfp.connect import connect, kfp_client
from baton.kfp.models import Experiment, Health, PipelineRef, Run, Version
from baton.kfp.states import RunState, is_terminal

__all__ = [
    "Experiment",
    "Health",
    "KfpClient",
    "PipelineRef",
    "Run",
    "RunState",
    "Version",
    "connect",
    "is_terminal",
    "kfp_client",
]
