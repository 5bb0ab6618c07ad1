"""Training requests, from submission to the finished file: durable rows, and the workers that train.

`rows` holds what is known of a job: a table that several servers may share, and a folder of files. `workers` train.
`ClaimedJobs` connects the two, `TrainingJobs` has the verbs for everybody else, and `Maintenance` repeats what has to
be repeated: heartbeats, take-overs, deadlines and clean-up.
"""
