"""The requests the harness sends itself, against answers written by hand."""

import socket
import struct
import threading
import unittest

from ottla_bench.batch import crc32c, last_offset, one_record
from ottla_bench.failure import CellFailed
from ottla_bench.wire import Connection


def answering(body: bytes) -> int:
    """A port whose first connection gets one answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            (length,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
            connection.recv(length, socket.MSG_WAITALL)
            connection.sendall(struct.pack(">ii", len(body) + 4, 7) + body)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


class Wire(unittest.TestCase):
    def test_an_error_of_a_topic_is_raised(self) -> None:
        created = struct.pack(">iih1shh3s", 0, 1, 1, b"t", 36, 3, b"why")
        with Connection(answering(created)) as connection, self.assertRaisesRegex(CellFailed, "creating t: error 36 why"):
            connection.create_topics({"t": 1})
        deleted = struct.pack(">iih1sh", 0, 1, 1, b"t", 3)
        with Connection(answering(deleted)) as connection, self.assertRaisesRegex(CellFailed, "deleting t: error 3"):
            connection.delete_topics(["t"])

    def test_partitions_with_a_leader_are_counted(self) -> None:
        brokers = struct.pack(">iiih1sih", 0, 1, 1, 1, b"h", 9092, -1)
        cluster = struct.pack(">hi", -1, 1)
        partitions = b"".join(
            struct.pack(">hii", error, index, leader) + struct.pack(">iiii", 1, 1, 1, 1)
            for index, (error, leader) in enumerate([(0, 1), (5, -1), (0, 1)])
        )
        topic = struct.pack(">ih1s?i", 0, 1, b"t", False, 3)
        body = brokers + cluster + struct.pack(">i", 1) + topic[2:] + partitions
        with Connection(answering(body)) as connection:
            self.assertEqual(connection.led_partitions(["t"]), {"t": 2})

    def test_the_errors_of_a_produce_are_those_of_its_partitions(self) -> None:
        data = struct.pack(">ihqq", 0, 0, 7, -1) + struct.pack(">ihqq", 1, 6, -1, -1)
        body = struct.pack(">ih1si", 1, 1, b"t", 2) + data + struct.pack(">i", 0)
        with Connection(answering(body)) as connection:
            self.assertEqual(connection.produce("t", 2, b"batch"), [0, 6])

    def test_fetched_records_come_behind_the_aborted_transactions(self) -> None:
        batch = one_record(b"value", 0)
        data = struct.pack(">ihqqiqqi", 0, 0, 1, 1, 1, 5, 0, len(batch)) + batch
        body = struct.pack(">iih1si", 0, 1, 1, b"t", 1) + data
        with Connection(answering(body)) as connection:
            error, records = connection.fetch("t", 0, 0)
        self.assertEqual((error, last_offset(records)), (0, 0))
        self.assertEqual(last_offset(batch[:-1]), -1)

    def test_log_ends_are_in_the_order_of_the_partitions(self) -> None:
        data = struct.pack(">ihqq", 1, 5, -1, -1) + struct.pack(">ihqq", 0, 0, -1, 9)
        with Connection(answering(struct.pack(">ih1si", 1, 1, b"t", 2) + data)) as connection:
            self.assertEqual(connection.log_ends("t", 2), [(0, 9), (5, -1)])

    def test_the_checksum_of_a_batch(self) -> None:
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)

    def test_a_closed_connection_is_a_failure(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        with listener, Connection(listener.getsockname()[1]) as connection:
            listener.accept()[0].close()
            with self.assertRaises(CellFailed):
                connection.delete_topics(["t"])

    def test_nobody_listening_is_a_failure(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with self.assertRaises(CellFailed):
            Connection(port)


if __name__ == "__main__":
    unittest.main()
