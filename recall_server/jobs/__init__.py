"""Training requests: what is asked (task), what became of it (records, store, files), and who does it (backends).

A later issue replaces `MemoryJobStore` by a durable table and may add backends; both are Protocols here.
"""
