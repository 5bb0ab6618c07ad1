"""The grid: its cells, how their bundles are measured, published figures, and the table and plot of all cells."""
