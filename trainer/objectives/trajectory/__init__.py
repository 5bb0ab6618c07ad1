"""Trajectory matching: networks that learn recalled items are to go where those went that learned real ones."""
