"""One step of inner training and its reverse: the interface, its implementations, and which of them is chosen."""
