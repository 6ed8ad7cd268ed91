"""What the relay holds in Postgres, and how it notices that it is lost.

Words: the *leader* is the session that reads, named by a row of ours. A *standby* waits for its
turn. A relay *sleeps* while it holds the sleep lock: writers notify it then, and only then.

* `leader`: one relay leads, and hands over to one that should; a standby ends the session of a
  leader that has vanished.
* `patience`: how long another relay must have been the better one before it gets the lead.
* `wakeup`: the sleep lock, and the connection that hears notifications.
* `notify_queue`: whether some listener fills the queue of notifications.
* `watchdog`: whether the connection that reads still reaches its session.

What can fail: a lost session loses the lead, and another relay takes it within 20 seconds. A relay
that is displaced without having noticed records nothing more, since each record checks the lead.
Locks taken by other logins, notifications that do not arrive and a full queue make the relay poll,
which costs milliseconds; each is named in log, readiness and metrics.
"""
