"""A downloaded classifier in this process, with onnxruntime."""

from recall_client.local.classifier import LocalClassifier, require_runtime

__all__ = ["LocalClassifier", "require_runtime"]
