"""Query encoders: ONNX networks that turn pictures into queries, their weights, and a novelty score for pictures."""
