"""Every alert of `deploy/alerts.yaml` raised by the fault that it is for: a real Prometheus, real receivers.

`python -m tests.alarms` does all faults at once, each to a receiver of its own under a job of its own, with the rules
as they are shipped (`make alarms`, a quarter of an hour). `tests/test_alarms.py` does the same with every duration in
the rules divided by one factor (`rules.py`), in a minute.

`faults.py` and its neighbours do the faults; a fault says what stands while it lasts, and whatever else stands is an
error. `scene.py` is what a fault is done in, `run.py` does them, `prometheus.py` is asked.
"""
