"""Shadow memories, and the audit that attacks a memory with them."""
