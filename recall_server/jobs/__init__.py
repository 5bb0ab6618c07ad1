"""Training requests: what is asked (task), what became of it (records, store, files), and who does it (backends).

What is known stands in a table that several servers may share (table, database, store, leases). A backend's workers
take their jobs through `ClaimedJobs`; `TrainingJobs` has the verbs for everybody else; `Maintenance` sees to the rest:
heartbeats, servers that died, jobs that waited too long, classifiers that are too old or too many.
"""
