"""What puts load on a server: the load client in C, the bare write loop, and pgbench.

`programs` builds `load.c` and `loop.c` with the machine's compiler, keeps the result under a name
made from their text, and drives them by lines on their standard input. `files` raises the limit of
open files, since each stream is one.
"""
