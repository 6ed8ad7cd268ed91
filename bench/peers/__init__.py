"""What people would use instead: each peer is started by a class, and says `why_not` if it cannot.

A peer is written as its users would write it who care for speed: one buffer for an event, no work
for each client that can be done once. None of them checks who may see an event.
"""
