"""Simulated traffic with ground truth: does every fact end in the conversation that it is really of?

    python -m tests.simulation --callbacks 1000000 --seed 7

| module | holds |
| --- | --- |
| `world.py` | people, our lines, circles of people and their groups, churn: one seeded random generator |
| `dialects/` | what happens, as each provider's callbacks tell it, quirks included |
| `traffic.py` | the order of delivery: delays, retries, lost registrations |
| `truth.py` | the oracle: what is true, and what all the evidence together determines |
| `run.py` | the real parsers and the real store on a real Redis |
| `judge.py` | compares, counts, reports |

The oracle is written from the identity rules as ARCHITECTURE.md states them, and shares no code with the engine.

What the world leaves out, because no evidence could tell: a group report of Telnyx that names neither the others nor
its group message, unless the account has `strict_groups`; the new owner of a recycled WhatsApp phone known by that
phone alone before any callback showed the new user id; a Sinch send from another line than `default_line` of which
nothing ever says so.
"""
