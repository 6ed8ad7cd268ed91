"""How fast it is, beside what people would use instead: `python -m bench NAME`, or all of them.

Words:

* A **benchmark** is one module of `benchmarks/` with `run(size) -> Report`; `catalogue` lists them.
  It starts real servers, fails if anything that should arrive does not (or anything else does), and
  measures.
* A **size** (`size`) says how long and how large: `full` is what docs/benchmarks.md shows, `quick`
  gives the same figures from fewer repetitions, `smoke` only shows that the module works.
* A **contender** is what is measured: ours, or a peer that took turns with it in the same run.
* A **figure** has a title, a unit and **cases**; each case has a **measured** value for each
  contender. One figure is one table and one plot.
* A **report** has the figures of one benchmark, the expectations that were met or missed, the peers
  that were left out and why, and the load average before and after. A **document** has the reports
  of one run and the machine; it is what `--json` writes, and what `python -m bench report FILE`
  puts into docs/benchmarks.md.

`runner` runs each benchmark in a process of its own. One that fails, or takes far too long, is
named and the others go on; the exit status is 1 then. An expectation that is missed is not a
failure. A peer whose program is not installed is left out, and the report says so.

Rooms, each of which imports from those after it: `benchmarks/` measure `servers/` (ours, and the
contenders) and `peers/`, under the `load/` of clients and writers, with `meters/`. `reports/` is
what they found, and `model/` what follows from it for a deployment of any size.
"""
