"""recall-trainer grid: methods x data sets x budgets x seeds, each cell in a process of its own."""
