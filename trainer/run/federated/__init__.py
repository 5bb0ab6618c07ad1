"""Federated learning in one round: memories of features, each made where its pictures are, become one memory."""
