"""The Markdown of a run: machine, targets, limits and cells, put between two markers of docs/performance.md."""

from pathlib import Path

from .results import Results
from .scenarios import LIMITS
from .stats import ratio
from .targets import DURABLE, KAFKA, OTTLA, verdicts

BEGIN = "<!-- bench:begin, written by `bench/run table` -->"
END = "<!-- bench:end -->"

_LIMIT_NAMES = {
    "file_write_mb_s": "writing a file through the page cache, MB/s",
    "file_write_cpu_s_per_gib": "writing a file through the page cache, CPU s/GiB",
    "fdatasync_1mib_mb_s": "writing a file, fdatasync behind every MiB, MB/s",
    "fdatasync_p50_ms": "fdatasync of 200 appended bytes, p50 ms",
    "fdatasync_p99_ms": "fdatasync of 200 appended bytes, p99 ms",
    "loopback_write_mb_s": "loopback, write of 256 KiB, MB/s",
    "loopback_write_cpu_s_per_gib": "loopback, write, sender's CPU s/GiB",
    "loopback_read_cpu_s_per_gib": "loopback, reader's CPU s/GiB",
    "loopback_sendfile_mb_s": "loopback, sendfile, MB/s",
    "loopback_sendfile_cpu_s_per_gib": "loopback, sendfile, sender's CPU s/GiB",
    "loopback_write_answers_cpu_s_per_gib": "loopback, write of 1 MiB when asked, sender's CPU s/GiB",
    "loopback_sendfile_answers_cpu_s_per_gib": "loopback, sendfile of 1 MiB when asked, sender's CPU s/GiB",
    "memcpy_gb_s": "memcpy beyond the caches, one core, GB/s",
    "crc32c_gb_s": "CRC32C, one core, GB/s",
}


def markdown(results: Results) -> str:
    parts = [_preface(results), _targets(results), _limits(results)]
    parts += [_scenario(results, scenario) for scenario in results.scenarios() if scenario not in (LIMITS, "session")]
    parts.append(_errors(results))
    return "\n\n".join(part for part in parts if part)


def write(document: Path, text: str) -> None:
    """Replaces what is between the markers; a document without them is refused."""
    old = document.read_text(encoding="utf-8")
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise ValueError(f"{document} needs the lines {BEGIN!r} and {END!r}, once each and in this order")
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _preface(results: Results) -> str:
    header = results.header
    return (
        f"`{header['command']}`, {header['date']}, Ottla {header['ottla']} (a binary of "
        f"{header['ottla_binary_mib']} MiB), Apache Kafka {header['kafka']} "
        f"({header.get('java', 'no JVM')}). {header['cores']} cores ({header['processor']}), {header['memory_gib']} GiB, "
        f"Linux {header['kernel']}, {header['file_system']}; load average before the run {header['load_before']}. "
        f"{_warm_up(header)}"
    )


def _warm_up(header: dict[str, object]) -> str:
    return f"Brokers under load were warmed up with {header['warm_up']}." if header.get("warm_up") else ""


def _targets(results: Results) -> str:
    lines = ["### Targets", "", "| | target | measured | |", "|---|---|---|---|"]
    words = {True: "met", False: "**not met**", None: ""}
    for verdict in verdicts(results):
        lines.append(f"| {verdict.what} | {verdict.target} | {verdict.measured} | {words[verdict.met]} |")
    return "\n".join(lines)


def _limits(results: Results) -> str:
    metrics = results.metrics(LIMITS, "machine")
    if not metrics:
        return ""
    lines = ["### The machine's limits, same run", "", "| | median (min-max) |", "|---|---|"]
    for metric in metrics:
        lines.append(f"| {_LIMIT_NAMES.get(metric, metric)} | {results.summary(LIMITS, 'machine', '', metric)} |")
    return "\n".join(lines)


def _scenario(results: Results, scenario: str) -> str:
    lines = [
        f"### {scenario}",
        "",
        "| cell | | Ottla, page cache | Ottla, durable | Apache Kafka | page cache / Kafka | durable / Kafka |",
        "|---|---|---|---|---|---|---|",
    ]
    alone = ["", "| no broker | | median (min-max) |", "|---|---|---|"]
    heading = len(alone)
    for cell in results.cells(scenario):
        for metric in results.metrics(scenario, cell):
            of_machine = results.summary(scenario, cell, "", metric)
            if of_machine:
                alone.append(f"| {cell} | {metric} | {of_machine} |")
            else:
                lines.append(_line(results, scenario, cell, metric))
    return "\n".join(lines + (alone if len(alone) > heading else []))


def _line(results: Results, scenario: str, cell: str, metric: str) -> str:
    ours, durable, theirs = (results.summary(scenario, cell, broker, metric) for broker in (OTTLA, DURABLE, KAFKA))
    columns = [str(summary) if summary else "-" for summary in (ours, durable, theirs)]
    columns += [ratio(summary, theirs) if summary and theirs else "-" for summary in (ours, durable)]
    return f"| {cell} | {metric} | " + " | ".join(columns) + " |"


def _errors(results: Results) -> str:
    rows = results.errors()
    if not rows:
        return ""
    lines = ["### Not measured", "", "| scenario | cell | broker | run | why |", "|---|---|---|---|---|"]
    for row in rows:
        why = " ".join((row.error or "").split())[:200].replace("|", "\\|")
        lines.append(f"| {row.scenario} | {row.cell} | {row.broker} | {row.run + 1} | {why} |")
    return "\n".join(lines)


def terminal(results: Results) -> str:
    """The targets, for the end of a run."""
    words = {True: "met", False: "NOT MET", None: "not measured"}
    return "\n".join(
        f"  {words[verdict.met]:12} {verdict.what}: {verdict.measured}, target {verdict.target}"
        for verdict in verdicts(results)
    )
