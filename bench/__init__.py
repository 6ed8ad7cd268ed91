"""How fast it is, beside what people would use instead: `python -m bench NAME`, or all of them.

Words:

* A **benchmark** is one module with `run(size) -> Report`; `catalogue` lists them. It starts real
  servers, fails if anything that should arrive does not (or anything else does), and measures.
* A **size** (`size`) says how long and how large: `full` is what docs/benchmarks.md shows, `quick`
  gives the same figures from fewer repetitions, `smoke` only shows that the module works.
* A **figure** (`figure`) has a title, a unit and **cases**; each case has a **measured** value
  (`measured`: median and quartiles) for each **contender**: ours, and peers that took turns with
  it in the same run. One figure is one table and one plot (`tables`, `plots`).
* A **report** (`report`) has the figures of one benchmark, the expectations that were met or
  missed, the peers that were left out and why, and the load average before and after. A
  **document** (`document`) has the reports of one run and the machine; it is what `--json` writes,
  and what `python -m bench report FILE` puts into docs/benchmarks.md (`page`).

`runner` runs each benchmark in a process of its own. One that fails, or takes far too long, is
named and the others go on; the exit status is 1 then. An expectation that is missed is not a
failure. A peer whose program is not installed is left out, and the report says so.

`stack` is what ours runs on, `contenders` has ours and the peers of the fan-out benchmarks, `load`
drives the load client and the bare write loop (`load.c`, `loop.c`), and `peers/` has the peers.
"""
