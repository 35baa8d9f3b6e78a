"""The Python client of a yard. It needs neither PyTorch nor the database's packages."""

from trainyard.client.asynchronous.client import AsyncClient as AsyncClient
from trainyard.client.asynchronous.training_job import AsyncTrainingJob as AsyncTrainingJob
from trainyard.client.errors import ApiError as ApiError
from trainyard.client.errors import Conflict as Conflict
from trainyard.client.errors import DownloadDamaged as DownloadDamaged
from trainyard.client.errors import InvalidRequest as InvalidRequest
from trainyard.client.errors import JobFailed as JobFailed
from trainyard.client.errors import KeyRefused as KeyRefused
from trainyard.client.errors import NotAllowed as NotAllowed
from trainyard.client.errors import NotFound as NotFound
from trainyard.client.errors import QuotaExceeded as QuotaExceeded
from trainyard.client.errors import TooManyRequests as TooManyRequests
from trainyard.client.errors import TrainyardError as TrainyardError
from trainyard.client.errors import Unavailable as Unavailable
from trainyard.client.kinds import Json as Json
from trainyard.client.series import Metrics as Metrics
from trainyard.client.series import Series as Series
from trainyard.client.synchronous.client import Client as Client
from trainyard.client.synchronous.training_job import TrainingJob as TrainingJob
from trainyard.client.yard_events import YardEvent as YardEvent
