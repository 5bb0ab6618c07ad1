"""The memory bundle: its file, manifest, checks, lock and signatures."""
