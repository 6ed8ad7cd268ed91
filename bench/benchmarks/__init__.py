"""The benchmarks: a module each, with `run(size) -> Report`.

`policies` has its shapes in `policy_shapes` and its streams in `policy_streams`. A benchmark that
cannot run here raises `NotPossibleError`; one whose events are lost, doubled or sent to somebody
else raises `RuntimeError`, and gives no figure.
"""
