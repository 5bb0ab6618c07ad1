"""Query encoders: ONNX networks that turn pictures into queries, their weights, and a novelty score for pictures."""

from recall_server.core.encoders.description import EncoderDescription
from recall_server.core.encoders.novelty import NoveltyScorer
from recall_server.core.encoders.query_encoder import QueryEncoder

__all__ = ["EncoderDescription", "NoveltyScorer", "QueryEncoder"]
