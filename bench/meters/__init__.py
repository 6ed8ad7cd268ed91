"""CPU time and memory of processes, read from /proc."""
