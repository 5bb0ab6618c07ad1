"""Images and labels that other tools made: read from files, grouped as a memory stores them, and bundled."""
