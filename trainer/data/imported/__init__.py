"""Images and labels that other tools made: read from files, and grouped as a memory stores them."""
