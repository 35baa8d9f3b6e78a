"""All requests of the client, of which the modules beside this one have their parts."""

from __future__ import annotations

from trainyard.client.asynchronous.aliases import AsyncAliasMethods
from trainyard.client.asynchronous.datasets import AsyncDatasetMethods
from trainyard.client.asynchronous.insight import AsyncInsightMethods
from trainyard.client.asynchronous.jobs import AsyncJobMethods
from trainyard.client.asynchronous.keys import AsyncKeyMethods
from trainyard.client.asynchronous.predictions import AsyncPredictionMethods
from trainyard.client.asynchronous.yard_events import AsyncYardEventMethods
from trainyard.client.asynchronous.yards import AsyncYardMethods


class AsyncRequests(
    AsyncJobMethods,
    AsyncDatasetMethods,
    AsyncPredictionMethods,
    AsyncInsightMethods,
    AsyncAliasMethods,
    AsyncKeyMethods,
    AsyncYardMethods,
    AsyncYardEventMethods,
):
    """What a yard can be asked."""
