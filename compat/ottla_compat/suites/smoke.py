"""The shortest proof that a client and the broker understand each other."""

from ..record import Record
from ..scenario import Scenario, Suite
from ..steps.groups import AwaitOwned, AwaitReceived, Join, Leave
from ..steps.records import ClusterIsDescribed, CreateTopic, MetadataShows, Produce, Read

RECORDS = [Record(b"value %d" % number, key=b"key %d" % number) for number in range(10)]

SUITE = Suite(
    "smoke",
    [
        Scenario("metadata", [CreateTopic("t", 3), MetadataShows("t", 3)]),
        Scenario("produce-and-read", [CreateTopic("t"), Produce("t", RECORDS), Read("t")]),
        Scenario(
            "group",
            [
                CreateTopic("t", 2),
                Produce("t", RECORDS),
                Join("a"),
                AwaitOwned({"a": 2}, {"t": 2}),
                AwaitReceived(["a"]),
                Leave("a"),
            ],
        ),
        Scenario("describe-cluster", [ClusterIsDescribed()]),
    ],
    side_by_side=True,
)
