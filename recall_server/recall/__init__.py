"""From labels and pictures to queries to a recalled training set."""
