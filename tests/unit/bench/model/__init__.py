"""The model of docs/scale.md, and the costs it uses."""
