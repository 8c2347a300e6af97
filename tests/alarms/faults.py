"""Every fault by its name: which alerts it raises, and no others."""

from tests.alarms.publishing import PUBLISHING
from tests.alarms.receiving import RECEIVING
from tests.alarms.scene import Faults
from tests.alarms.storing import STORING

FAULTS: Faults = {**RECEIVING, **STORING, **PUBLISHING}
