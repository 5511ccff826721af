"""From exec to the first answered request, idle memory, and the size of the binary.

Each run starts the binary as a user does, on a data directory that is new (cold) or was stopped cleanly (warm), and asks
for metadata (version 1, all topics) on a plain socket until it is answered.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

METADATA_V1 = struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">i", -1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port):
    """One metadata request; true when it was answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(struct.pack(">i", len(METADATA_V1)) + METADATA_V1)
        head = connection.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return False
        (length,) = struct.unpack(">i", head)
        body = connection.recv(length, socket.MSG_WAITALL)
        return len(body) == length and struct.unpack(">i", body[:4])[0] == 7


def start(binary, directory):
    port = free_port()
    begun = time.perf_counter()
    process = subprocess.Popen(
        [binary, "server", "--data-dir", directory, "--set", f"listeners=PLAINTEXT://127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = begun + 10
    while time.perf_counter() < deadline:
        try:
            if ask(port):
                return process, (time.perf_counter() - begun) * 1000
        except OSError:
            pass
        if process.poll() is not None:
            raise SystemExit(f"the broker ended with {process.returncode}: {process.stderr.read().decode()}")
        time.sleep(0.0002)
    raise SystemExit("the broker did not answer within 10 s")


def stop(process):
    process.send_signal(signal.SIGTERM)
    if process.wait(timeout=10) != 0:
        raise SystemExit(f"the broker stopped with {process.returncode}: {process.stderr.read().decode()}")


def resident_kib(process):
    with open(f"/proc/{process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))


def sync_ms(directory):
    """This machine's own price of making one small file durable, in the same run."""
    path = os.path.join(directory, "probe")
    times = []
    with open(path, "wb") as probe:
        for _ in range(20):
            probe.write(b"x" * 4096)
            probe.flush()
            begun = time.perf_counter()
            os.fdatasync(probe.fileno())
            times.append((time.perf_counter() - begun) * 1000)
    os.unlink(path)
    return times


def row(name, values, unit):
    print(f"  {name:<34} {min(values):9.2f} {statistics.median(values):9.2f} {max(values):9.2f}  {unit}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--ci", action="store_true", help="three runs")
    arguments = parser.parse_args()
    runs = 3 if arguments.ci else arguments.runs
    binary = os.path.abspath(arguments.binary)
    cold, warm, memory = [], [], []
    root = tempfile.mkdtemp(prefix="ottla-startup-", dir=os.environ.get("OTTLA_BENCH_DIR"))
    try:
        for run in range(runs):
            directory = os.path.join(root, f"data-{run}")
            process, elapsed = start(binary, directory)
            cold.append(elapsed)
            memory.append(resident_kib(process) / 1024)
            stop(process)
            process, elapsed = start(binary, directory)
            warm.append(elapsed)
            stop(process)
        syncs = sync_ms(root)
    finally:
        shutil.rmtree(root)
    with tempfile.TemporaryDirectory() as scratch:
        stripped = os.path.join(scratch, "ottla")
        subprocess.run(["strip", "-o", stripped, binary], check=True)
        size = os.path.getsize(stripped) / (1 << 20)
    print(f"bench: startup, {runs} runs, {os.cpu_count()} cores")
    print(f"  {'':<34} {'min':>9} {'median':>9} {'max':>9}")
    row("exec to first answer, new directory", cold, "ms")
    row("exec to first answer, restart", warm, "ms")
    row("idle resident memory", memory, "MiB")
    row("one fdatasync of 4 KiB", syncs, "ms")
    print(f"  {'stripped binary':<34} {size:29.2f}  MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
