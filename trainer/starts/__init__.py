"""Where a memory begins."""
