"""Every fault by its name, in the order in which they are run."""

from tests.chaos.clocks import clock_steps, late_redeliveries
from tests.chaos.failovers import cluster_master, cluster_window, sentinel, sentinel_window
from tests.chaos.kills import frozen_pipeline, kills, redis_kills
from tests.chaos.limits import limits
from tests.chaos.outages import redis_disk_full, redis_frozen, redis_refused, spool_disk_full
from tests.chaos.poison import killers, poison
from tests.chaos.scenario import Scenario

FAULTS: dict[str, Scenario] = {
    "kills": kills,
    "redis-kills": redis_kills,
    "frozen-pipeline": frozen_pipeline,
    "redis-frozen": redis_frozen,
    "redis-refused": redis_refused,
    "redis-disk-full": redis_disk_full,
    "spool-disk-full": spool_disk_full,
    "sentinel": sentinel,
    "sentinel-window": sentinel_window,
    "cluster": cluster_master,
    "cluster-window": cluster_window,
    "clock-steps": clock_steps,
    "late-redeliveries": late_redeliveries,
    "poison": poison,
    "killers": killers,
    "limits": limits,
}
