"""The brokers a run can be pointed at."""

from .base import Broker, BrokerFactory
from .external import ExternalBroker, external
from .kafka import KafkaFactory
from .ottla import OttlaFactory

__all__ = ["Broker", "BrokerFactory", "ExternalBroker", "KafkaFactory", "OttlaFactory", "external"]
