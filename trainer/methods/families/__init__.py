"""The named methods by family. Each is a function of at most 15 lines that composes specs and cites its source."""
