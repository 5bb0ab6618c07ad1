"""Making encoder files: ONNX models in the form that the server loads, from weights, ONNX files or timm."""
