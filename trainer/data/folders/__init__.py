"""Data sets in folders: of class folders, of arrays, and Tiny ImageNet's own."""
