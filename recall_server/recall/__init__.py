"""From labels and pictures to queries, to recalled images, to a training set."""
