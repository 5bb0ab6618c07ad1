"""A downloaded classifier in this process, with onnxruntime."""

from recall_client.local.classifier import NONE_BELOW, LocalClassifier, require_runtime

__all__ = ["NONE_BELOW", "LocalClassifier", "require_runtime"]
