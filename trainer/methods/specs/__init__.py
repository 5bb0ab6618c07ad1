"""The parts of a method as plain data: each spec names a part, holds its settings, and builds it."""
