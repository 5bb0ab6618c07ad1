"""Reading and writing files: safetensors, atomic writes, pictures."""
