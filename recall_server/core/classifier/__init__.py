"""Classifiers: training a fresh one, nearest-mean prototypes, ONNX export, and an estimate of the accuracy."""
