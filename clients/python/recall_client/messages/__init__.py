"""Requests and answers as plain data; nothing in here opens a connection."""
