"""The configuration of a process: settings read from `TRAINYARD_*` once, only at the entry points."""

from trainyard.settings.address_settings import LOOPBACK_HOSTS as LOOPBACK_HOSTS
from trainyard.settings.yard_settings import Settings as Settings
from trainyard.settings.yard_settings import child_environment as child_environment
