"""The one exception tree. Each branch carries the exit code that the command line ends with."""

from __future__ import annotations

from typing import ClassVar


class EgressError(Exception):
    """What went wrong, where, and what to do next: `message` is meant for a person."""

    exit_code: ClassVar[int] = 2


class UsageError(EgressError):
    """The command or the configuration cannot be carried out as written."""

    exit_code = 2


class ConfigError(UsageError):
    """A file that people write says something that cannot hold; the message names file, path and value."""


class InputError(EgressError):
    """An input cannot be read at all."""

    exit_code = 3


class StoreError(EgressError):
    """The store cannot be opened, written or understood."""

    exit_code = 4


class ServiceError(EgressError):
    """A service (broker, server, helper program) cannot be reached."""

    exit_code = 4


class BusError(ServiceError):
    """The bus refuses for good: trying again as things are would end the same way."""


class TopicMissing(BusError):
    """A topic is not there, or not for this user."""


class BusAway(BusError):
    """No broker answers now; one may later."""
