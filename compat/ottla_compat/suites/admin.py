"""Every admin function through every client that has it; what the client tells is compared with what it told of Apache
Kafka, recorded. A driver names each function its library has among its capabilities; `admin` are all of EVERY_ADMIN."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..driver import EVERY_ADMIN
from ..failure import CannotRun, ClientError
from ..record import Record
from ..scenario import Context, Program, Step, Suite
from ..steps.groups import AwaitOwned, Commit, CommittedIs, Drain, Join, Leave
from ..steps.records import CreateTopic, MetadataShows, OffsetsAre, Produce
from ..waiting import wait_until
from ..wire import recorded

BASE_MS = 1_700_000_000_000
# The records are old: a broker looks for such half a minute after its start.
KEEP = {"retention.ms": "-1"}
TEN = [Record(b"value %d" % number, timestamp=BASE_MS + number) for number in range(10)]


@dataclass(frozen=True)
class Call:
    """One operation of the driver. `$name` in its arguments is a name of this run."""

    op: str
    args: Mapping[str, Any] = field(default_factory=dict)


def call(op: str, **args: Any) -> Call:
    return Call(op, args)


def case(name: str, *steps: Step | Call) -> Program:
    """Steps arrange, calls are answered, and their answers recorded or compared."""
    needs = frozenset().union(*(step.needs if isinstance(step, Step) else {step.op} for step in steps))

    def body(context: Context) -> None:
        answered: list[tuple[Call, Any]] = []
        for step in steps:
            if isinstance(step, Step):
                step.run(context)
                continue
            try:
                answer = settled(context, step)
            except ClientError as error:
                answer = {"error": error.name}
            answered.append((step, normalised(context, step.op, answer)))
        if context.options.record:
            check_telling(name, answered)
        recorded.check(recorded.ADMIN, context, f"{context.client}/{name}", [answer for _, answer in answered])

    return Program(name, body, needs)


def settled(context: Context, step: Call) -> Any:
    """The answer; of Apache Kafka's configurations one that stays, since its broker hears of a change after the client."""

    def ask() -> Any:
        return context.driver().call(step.op, **filled(context, dict(step.args)))

    answer = ask()
    if step.op != "config_entries" or context.factory is None or context.factory.name != "kafka":
        return answer
    seen = [answer]

    def stays() -> bool:
        seen.append(ask())
        return len(seen) > 5 and all(each == seen[-1] for each in seen[-5:])

    wait_until("configurations that stay", stays, 20, interval_s=0.1)
    return seen[-1]


def check_telling(name: str, answered: Sequence[tuple[Call, Any]]) -> None:
    """An answer about what is there that is the same about what is not there tells nothing: a driver's mistake."""
    about = {(each.op, repr(each.args)): answer for each, answer in answered}
    for each, answer in answered:
        present = about.get((each.op, repr(each.args).replace("'$absent'", "'$t'")))
        if "'$absent'" in repr(each.args) and present is not None and present == answer:
            raise CannotRun(f"{name}: {each.op} answers of $absent as of $t: {answer}")


def filled(context: Context, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        return context.name(value[1:])
    if isinstance(value, dict):
        return {key: filled(context, each) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(context, each) for each in value]
    return value


def normalised(context: Context, op: str, answer: Any) -> Any:
    answer = with_names(context, answer)
    if not isinstance(answer, (dict, list)) or (isinstance(answer, dict) and set(answer) == {"error"}):
        return "some" if op == "topic_id" and isinstance(answer, str) else answer
    match op:
        case "describe_cluster":
            return {"cluster_id": bool(answer["cluster_id"]), "nodes": answer["nodes"]}
        case "metadata":
            return answer["topics"]
        case "describe_group":
            members = [{key: each[key] for key in ("instance_id", "partitions")} for each in answer["members"]]
            return {**answer, "members": members}
        case "list_groups":
            return [each for each in answer if each["group"].startswith("$")]
        case "list_config_resources":
            return [each for each in answer if each[0] != "TOPIC" or each[1].startswith("$")]
        case "describe_log_dirs":
            return [{**each, "partitions": sorted(without_size(one) for one in each["partitions"])} for each in answer]
        case "config_entries":
            return {key: entry for key, entry in answer.items() if key in COMPARED_KEYS}
    return answer


def without_size(partition: list[Any]) -> list[Any]:
    """How a client batches its records is its own affair: that there are bytes is compared."""
    topic, number, size, *rest = partition
    return [topic, number, size > 0, *rest]


def with_names(context: Context, value: Any) -> Any:
    prefix = context.name("")
    if isinstance(value, str) and value.startswith(prefix):
        return f"${value[len(prefix) :]}"
    if isinstance(value, dict):
        return {with_names(context, key): with_names(context, each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_names(context, each) for each in value]
    return value


COMPARED_KEYS = frozenset(
    {
        "cleanup.policy",
        "compression.type",
        "delete.retention.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "retention.bytes",
        "retention.ms",
        "segment.ms",
        "unclean.leader.election.enable",
        "log.retention.ms",
        "message.max.bytes",
        "num.network.threads",
        "num.partitions",
        "offsets.retention.minutes",
    }
)


def alter(*ops: Sequence[str | None], name: str = "$t", kind: str = "topic", **more: Any) -> Call:
    return call("incremental_alter_configs", kind=kind, name=name, ops=[list(each) for each in ops], **more)


def entries(name: str = "$t", kind: str = "topic") -> Call:
    return call("config_entries", kind=kind, name=name)


TOPICS = [
    case(
        "create-topic",
        call("create_topic", name="$t", partitions=3, configs={"retention.ms": "1234567"}),
        call("create_topic", name="$t", partitions=3, configs={}),
        MetadataShows("t", 3),
        call("metadata", topic="$t"),
    ),
    case(
        "create-topic-refused",
        call("create_topic", name="not/valid", partitions=1, configs={}),
        call("create_topic", name="$t", partitions=1, configs={"retention.ms": "soon"}),
        call("create_topic", name="$t", partitions=1, configs={"no.such.key": "1"}),
        call("create_topic", name="$t", partitions=1, replication_factor=3, configs={}),
    ),
    case("describe-topic", CreateTopic("t", 3), MetadataShows("t", 3), call("metadata", topic="$t")),
    case("topic-id", CreateTopic("t"), call("topic_id", name="$t"), call("topic_id", name="$absent")),
    case("describe-configs-of-nothing", call("describe_configs", kind="topic", name="$absent")),
    case(
        "delete-topic",
        CreateTopic("t"),
        call("delete_topic", name="$t"),
        call("delete_topic", name="$absent"),
    ),
    case(
        "create-partitions",
        CreateTopic("t", 2),
        call("create_partitions", topic="$t", total=5),
        call("create_partitions", topic="$t", total=5),
        call("create_partitions", topic="$t", total=1),
        call("create_partitions", topic="$absent", total=5),
        MetadataShows("t", 5),
        call("metadata", topic="$t"),
    ),
    case(
        "delete-records",
        CreateTopic("t", configs=KEEP),
        Produce("t", TEN),
        call("delete_records", topic="$t", partition=0, offset=4),
        OffsetsAre("t", 4, "beginning"),
        call("delete_records", topic="$t", partition=0, offset=2),
        call("delete_records", topic="$t", partition=0, offset=11),
        OffsetsAre("t", 4, "beginning"),
        call("delete_records", topic="$t", partition=0, offset=-1),
        OffsetsAre("t", 10, "beginning"),
        OffsetsAre("t", 10, "end"),
    ),
    case(
        "list-offsets",
        CreateTopic("t", configs=KEEP),
        Produce("t", TEN),
        *[call("list_offsets", topic="$t", partition=0, at=at) for at in ("earliest", "latest")],
        call("list_offsets", topic="$t", partition=0, at="timestamp", timestamp=BASE_MS + 5),
        call("list_offsets", topic="$t", partition=0, at="timestamp", timestamp=0),
    ),
    case(
        "describe-log-dirs",
        CreateTopic("t", 2, KEEP),
        Produce("t", TEN),
        call("describe_log_dirs", topic="$t"),
        call("describe_log_dirs", topic="$absent"),
    ),
    case(
        "describe-producers",
        CreateTopic("t", configs=KEEP),
        call("describe_producers", topic="$t", partition=0),
        Produce("t", TEN, {"acks": "all", "enable.idempotence": "true"}),
        call("describe_producers", topic="$t", partition=0),
    ),
]

CONFIGS = [
    case("topic-entries", CreateTopic("t", configs={"retention.ms": "1234567"}), entries(), entries("$absent")),
    case("broker-entries", entries("1", "broker")),
    case(
        "alter-topic-incrementally",
        CreateTopic("t"),
        alter(("set", "retention.ms", "60000"), ("set", "max.message.bytes", "2000000")),
        entries(),
        alter(("append", "cleanup.policy", "compact"), ("delete", "retention.ms", None)),
        entries(),
        alter(("subtract", "cleanup.policy", "delete")),
        entries(),
        alter(("set", "retention.ms", "soon")),
        alter(("set", "no.such.key", "1")),
        alter(("append", "retention.ms", "1")),
        alter(("set", "retention.ms", "1"), name="$absent"),
        alter(("set", "segment.ms", "77777"), validate_only=True),
        entries(),
    ),
    case(
        "alter-topic",
        CreateTopic("t", configs={"retention.ms": "1234567"}),
        call("alter_configs", kind="topic", name="$t", set={"max.message.bytes": "2000000"}),
        entries(),
        call("alter_configs", kind="topic", name="$t", set={"max.message.bytes": "huge"}),
        call("alter_configs", kind="topic", name="$absent", set={"max.message.bytes": "1"}),
    ),
    case(
        "alter-broker-refused",
        alter(("set", "num.partitions", "9"), name="1", kind="broker"),
        alter(("set", "log.retention.ms", "soon"), name="1", kind="broker"),
        alter(("set", "log.retention.ms", "600000000"), name="1", kind="broker", validate_only=True),
        entries("1", "broker"),
    ),
    case(
        "list-config-resources",
        CreateTopic("t"),
        call("list_config_resources", kinds=["topic"]),
        call("list_config_resources", kinds=["broker"]),
    ),
]

GROUPS = [
    case("describe-cluster", call("describe_cluster")),
    *[
        case(
            name,
            CreateTopic("t", 2, KEEP),
            Produce("t", TEN),
            Join("a"),
            AwaitOwned({"a": 2}, {"t": 2}),
            Drain("a", 10),
            Commit("a", [("t", 0, 7)]),
            CommittedIs("a", [("t", 0, 7)]),
            *calls,
            Leave("a"),
            *after,
        )
        for name, calls, after in (
            ("describe-a-group", [call("describe_group", group="$g")], []),
            ("list-groups", [call("list_groups")], []),
            ("offsets-of-a-group", [call("group_offsets", group="$g")], [call("group_offsets", group="$g")]),
            ("delete-a-group", [call("delete_group", group="$g")], [call("delete_group", group="$g")] * 2),
        )
    ],
    case(
        "delete-offsets",
        CreateTopic("t", 2, KEEP),
        Produce("t", TEN),
        Join("a"),
        AwaitOwned({"a": 2}, {"t": 2}),
        Drain("a", 10),
        Commit("a", [("t", 0, 7), ("t", 1, 0)]),
        CommittedIs("a", [("t", 0, 7)]),
        call("delete_offsets", group="$g", topic="$t", partition=0),
        Leave("a"),
        call("delete_offsets", group="$g", topic="$t", partition=0),
        call("group_offsets", group="$g"),
        call("delete_offsets", group="$absent", topic="$t", partition=0),
    ),
    case("describe-an-unknown-group", call("describe_group", group="$absent")),
    case("delete-an-unknown-group", call("delete_group", group="$absent")),
]

SUITE = Suite(
    "admin",
    [*TOPICS, *CONFIGS, *GROUPS],
    side_by_side=True,
    ci=frozenset({"create-partitions", "delete-records", "describe-log-dirs", "delete-offsets", "delete-a-group"}),
)
