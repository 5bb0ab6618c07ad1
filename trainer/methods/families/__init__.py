"""The named methods by family: each a function of at most 15 lines that composes specs and says where it comes from."""
