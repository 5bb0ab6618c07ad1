"""Few-shot episodes: many small tasks with one fresh network each, trained together where that is faster."""
