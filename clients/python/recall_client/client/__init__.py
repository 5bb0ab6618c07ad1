"""The clients, and the handles on classifiers that they return. `client.asyncio` has those for asyncio."""

from recall_client.client.blocking import Classifier, RecallClient

__all__ = ["Classifier", "RecallClient"]
