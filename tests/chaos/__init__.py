"""`make chaos`: real processes, a real Redis, senders that behave as the providers do, and one fault after the other.

What was answered 200 must stand in the stream exactly once and in its order, whatever was killed, frozen, cut off,
filled up or set wrong meanwhile. `python -m tests.chaos --list` names the faults.

    facts.py       what is posted: each callback a fact with an id and a conversation of its own
    habits.py      when each provider posts a callback again
    connection.py  one connection of it
    sender.py      a process that posts, redelivers and notes everything in a ledger
    ledger.py      that record, written and read
    judge.py       ledger against stream: what is missing, doubled, out of order. Pure
    world.py       the processes of one scenario: Redis, partyline, sender
    scenario.py    what a scenario is, how one is run and told
    kills.py … limits.py   the faults
"""
