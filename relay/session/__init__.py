"""What the relay holds in Postgres: the lead, the wake-up, and a healthy connection.

* *leader*: the one relay that numbers batches; a *standby* waits to take over
* *asleep*: the relay holds the sleep lock, and writers notify it
* *awake*: the relay polls, and writers are silent

`leader` keeps the lead, `wakeup` has LISTEN and the sleep lock, `watchdog` notices a connection
whose data is dropped on the way.

What can fail, and what follows:

* the leader dies or falls silent: a standby takes over;
* notifications do not arrive: the relay polls;
* a read gets no answer while its session is idle: the session is ended, and the relay reconnects.
"""
