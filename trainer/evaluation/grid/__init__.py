"""The grid: what a cell is, how its bundle is measured, published figures, and the table and plot of all cells."""
