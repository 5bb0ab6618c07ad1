"""Requests and answers as plain data: no connection in here."""
