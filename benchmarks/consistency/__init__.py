"""What checking costs: `python -m benchmarks.consistency`, beside a peer in the same run.

`inputs` makes the files, `children` runs one comparison in a process of its own and says what it took, `windows` and
`points` measure the live check's judge and InfluxDB's fingerprints, `figures` judges it all against its targets.
"""
