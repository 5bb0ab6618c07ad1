"""Classifiers: trained ones, prototypes, ONNX export, expected accuracy."""
