"""The model of docs/scale.md: what a deployment of any size uses, and which part is full first.

`python -m bench scale` measures; `costs` divides what it saw into the cost of each step (`fit`),
and `costs.json` keeps a run. `usage` applies these costs to a deployment, `projects` has typical
ones, `advice` says what to do about a part that is full. `simulate` is the command, `scale_page`
writes the tables of the page.
"""
