"""What is measured: our whole stack, and beside it the contenders of the fan-out benchmarks.

`stack` starts Postgres, Valkey, a relay and gateways, and opens streams that are read here. In
`contenders`, ours and each peer have the same number of streams open, and take turns. `cpu_meter`
adds up CPU time by part: each process of a stack, and each login's sessions in Postgres. For
questions alone, `database` starts Postgres with our schema, and opens a gateway's pool. Some
benchmarks also measure the sources of another checkout, which AYB_BENCH_BEFORE names.
"""
