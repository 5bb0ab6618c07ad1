"""A downloaded classifier in this process, with onnxruntime."""
