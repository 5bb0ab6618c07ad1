"""The named methods, the paper's recipes, budgets and overrides."""
