"""Files: tensors in safetensors, atomic writes, pictures."""
