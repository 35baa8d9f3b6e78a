# Written by `make client` from the module of this name in `trainyard.client.asynchronous`; not to be edited.
"""All requests of the client, of which the modules beside this one have their parts."""

from __future__ import annotations

from trainyard.client.synchronous.aliases import AliasMethods
from trainyard.client.synchronous.datasets import DatasetMethods
from trainyard.client.synchronous.insight import InsightMethods
from trainyard.client.synchronous.jobs import JobMethods
from trainyard.client.synchronous.keys import KeyMethods
from trainyard.client.synchronous.predictions import PredictionMethods
from trainyard.client.synchronous.yard_events import YardEventMethods
from trainyard.client.synchronous.yards import YardMethods


class Requests(
    JobMethods,
    DatasetMethods,
    PredictionMethods,
    InsightMethods,
    AliasMethods,
    KeyMethods,
    YardMethods,
    YardEventMethods,
):
    """What a yard can be asked."""
