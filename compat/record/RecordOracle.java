import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;

import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.internals.BufferSupplier;
import org.apache.kafka.common.utils.internals.PrimitiveRef;
import org.apache.kafka.storage.internals.log.AppendOrigin;
import org.apache.kafka.storage.internals.log.LogValidator;
import org.apache.kafka.storage.internals.log.RecordValidationException;

/**
 * Apache Kafka's own record code as the judge of ours.
 *
 * <p>{@code golden} prints batches Kafka builds; {@code judge} reads cases from standard input, one a line, and holds
 * our verdict on each against that of Kafka's produce path.
 */
public final class RecordOracle {
    private static final long BASE_TIMESTAMP = 1_700_000_000_000L;
    private static final TopicPartition PARTITION = new TopicPartition("t", 0);

    public static void main(String[] arguments) throws Exception {
        if (arguments.length == 1 && arguments[0].equals("golden")) {
            golden();
        } else if (arguments.length == 1 && arguments[0].equals("judge")) {
            System.exit(judge() ? 0 : 1);
        } else {
            System.err.println("usage: RecordOracle golden | judge");
            System.exit(2);
        }
    }

    // ---- golden batches -------------------------------------------------------------------------------------------

    private static void golden() {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            print(codec, build(Compression.of(codec).build(), TimestampType.CREATE_TIME, -1, (short) -1, -1, false));
        }
        print("lz4-level-17", build(Compression.lz4().level(17).build(), TimestampType.CREATE_TIME, -1, (short) -1, -1, false));
        print("gzip-level-9", build(Compression.gzip().level(9).build(), TimestampType.CREATE_TIME, -1, (short) -1, -1, false));
        print("zstd-level-22", build(Compression.zstd().level(22).build(), TimestampType.CREATE_TIME, -1, (short) -1, -1, false));
        print("log-append-time", build(Compression.NONE, TimestampType.LOG_APPEND_TIME, -1, (short) -1, -1, false));
        print("idempotent", build(Compression.NONE, TimestampType.CREATE_TIME, 4711, (short) 3, 2_147_483_640, false));
        print("transactional", build(Compression.NONE, TimestampType.CREATE_TIME, 4711, (short) 3, 7, true));
        for (ControlRecordType type : List.of(ControlRecordType.COMMIT, ControlRecordType.ABORT)) {
            print("marker-" + type.name().toLowerCase(), MemoryRecords.withEndTransactionMarker(
                123L, BASE_TIMESTAMP, 5, 4711L, (short) 3, new EndTransactionMarker(type, 9)));
        }
    }

    private static MemoryRecords build(Compression compression, TimestampType timestampType, long producerId,
                                       short producerEpoch, int baseSequence, boolean transactional) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1024), RecordBatch.CURRENT_MAGIC_VALUE,
            compression, timestampType, 0L, BASE_TIMESTAMP + 1_000, producerId, producerEpoch, baseSequence,
            transactional, RecordBatch.NO_PARTITION_LEADER_EPOCH);
        builder.append(BASE_TIMESTAMP, bytes("k0"), bytes("v0"));
        builder.append(BASE_TIMESTAMP + 5, (byte[]) null, (byte[]) null);
        builder.append(BASE_TIMESTAMP - 3, new byte[0], pattern(300), new Header[] {
            new RecordHeader("h", bytes("1")), new RecordHeader("h", null), new RecordHeader("", bytes("x")),
            new RecordHeader("h\u00e4", new byte[0])});
        for (int index = 3; index < 40; index++) {
            builder.append(BASE_TIMESTAMP + 1_000L * index, bytes("key-" + index), bytes("the value of record " + index));
        }
        return builder.build();
    }

    private static byte[] pattern(int length) {
        byte[] bytes = new byte[length];
        for (int index = 0; index < length; index++)
            bytes[index] = (byte) (index * 7);
        return bytes;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void print(String name, MemoryRecords records) {
        System.out.println(name + " " + hex(records.buffer()));
    }

    // ---- judging --------------------------------------------------------------------------------------------------

    /** One line of input. */
    private record Case(String name, short version, TimestampType timestampType, long beforeMaxMs, long afterMaxMs,
                        boolean compacted, String target, int maxRecordBytes, int maxBatchBytes, long nowMs,
                        byte[] input, short ourCode, String ourDetail, byte[] ourOutput, long ourMaxTimestamp,
                        boolean ourRebuilt, List<Integer> ourRejected) {
        MemoryRecords ourRecords() {
            return MemoryRecords.readableRecords(ByteBuffer.wrap(ourOutput));
        }

        static Case parse(String line) {
            String[] field = line.split("\t", -1);
            List<Integer> rejected = new ArrayList<>();
            for (String index : field[16].split(","))
                if (!index.isEmpty())
                    rejected.add(Integer.valueOf(index));
            return new Case(field[0], Short.parseShort(field[1]),
                field[2].equals("LogAppendTime") ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME,
                Long.parseLong(field[3]), Long.parseLong(field[4]), field[5].equals("true"), field[6],
                Integer.parseInt(field[7]), Integer.parseInt(field[8]), Long.parseLong(field[9]), unhex(field[10]),
                Short.parseShort(field[11]), field[12], unhex(field[13]), Long.parseLong(field[14]),
                field[15].equals("true"), rejected);
        }
    }

    /** What Kafka makes of a case: output, or an error's code; -1 stands for an internal error. */
    private record Verdict(short code, String detail, MemoryRecords output, long maxTimestamp, boolean rebuilt,
                           List<Integer> rejected) {
        static Verdict refused(Errors error, Throwable cause, List<Integer> rejected) {
            return new Verdict(error.code(), cause.toString(), null, -1, false, rejected);
        }
    }

    private static boolean judge() throws Exception {
        BufferedReader reader = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        Map<String, Integer> outcomes = new TreeMap<>();
        int passed = 0;
        int failed = 0;
        for (String line = reader.readLine(); line != null; line = reader.readLine()) {
            Case given = Case.parse(line);
            Verdict kafka = kafkaVerdict(given);
            String complaint = compare(given, kafka, outcomes);
            if (complaint == null) {
                passed++;
            } else {
                failed++;
                if (failed <= 20)
                    System.out.println("FAILED " + given.name + ": " + complaint + "; Kafka " + kafka.code + " " + kafka.detail
                        + "; ours " + given.ourCode + " " + given.ourDetail + "\n  " + line.substring(0, Math.min(600, line.length())));
            }
        }
        outcomes.forEach((outcome, count) -> System.out.println(outcome + ": " + count));
        System.out.println("record: " + passed + " cases passed, " + failed + " failed");
        return failed == 0 && passed > 0;
    }

    private static Verdict kafkaVerdict(Case given) {
        try {
            MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(given.input.clone()));
            ProduceRequest.validateRecords(given.version, records);
            CompressionType source = analyze(records, given);
            MutableRecordBatch batch = records.batches().iterator().next();
            ByteBuffer only = records.buffer().duplicate();
            only.limit(batch.sizeInBytes());
            Compression target = given.target.equals("producer")
                ? Compression.of(source).build() : Compression.of(given.target).build();
            LogValidator validator = new LogValidator(MemoryRecords.readableRecords(only.slice()), PARTITION,
                fixedTime(given.nowMs), source, target, given.compacted, RecordBatch.CURRENT_MAGIC_VALUE,
                given.timestampType, given.beforeMaxMs, given.afterMaxMs, batch.partitionLeaderEpoch(),
                AppendOrigin.CLIENT, given.maxRecordBytes);
            LogValidator.ValidationResult result = validator.validateMessagesAndAssignOffsets(
                PrimitiveRef.ofLong(0), new Unrecorded(), BufferSupplier.NO_CACHING);
            if (result.messageSizeMaybeChanged() && result.validatedRecords().sizeInBytes() > given.maxBatchBytes)
                return new Verdict(Errors.MESSAGE_TOO_LARGE.code(), "too large afterwards", null, -1, true, List.of());
            return new Verdict((short) 0, "", result.validatedRecords(), result.maxTimestampMs(),
                result.messageSizeMaybeChanged(), List.of());
        } catch (RecordValidationException error) {
            return Verdict.refused(Errors.forException(error.invalidException()), error.invalidException(),
                error.recordErrors().stream().map(record -> record.batchIndex).toList());
        } catch (ApiException error) {
            return Verdict.refused(Errors.forException(error), error, List.of());
        } catch (Exception | Error error) {
            // A decoder may fail with any of these; a broker answers UNKNOWN_SERVER_ERROR.
            return Verdict.refused(Errors.UNKNOWN_SERVER_ERROR, error, List.of());
        }
    }

    /** The checks of UnifiedLog before the validator's, in its order. */
    private static CompressionType analyze(MemoryRecords records, Case given) {
        MutableRecordBatch batch = records.batches().iterator().next();
        if (batch.baseOffset() != 0)
            throw Errors.INVALID_RECORD.exception("base offset");
        batch.lastOffset();
        if (batch.sizeInBytes() > given.maxBatchBytes)
            throw Errors.MESSAGE_TOO_LARGE.exception("size");
        if (!batch.isValid())
            throw Errors.CORRUPT_MESSAGE.exception("crc");
        return CompressionType.forId(batch.compressionType().id);
    }

    private static String compare(Case given, Verdict kafka, Map<String, Integer> outcomes) {
        if (given.ourCode != 0) {
            if (kafka.code == given.ourCode) {
                outcomes.merge("both refuse with " + Errors.forCode(kafka.code), 1, Integer::sum);
                if (given.ourDetail.startsWith("Malformed") || given.ourDetail.startsWith("Decompress"))
                    return null; // Kafka names a record before it finds the next to be malformed, we do not.
                boolean capped = given.ourRejected.size() == 256;
                List<Integer> expected = capped ? kafka.rejected.subList(0, 256) : kafka.rejected;
                return expected.equals(given.ourRejected) ? null : "other records rejected: " + expected + ", ours " + given.ourRejected;
            }
            if (kafka.code == -1) {
                outcomes.merge("Kafka fails internally, we refuse with " + Errors.forCode(given.ourCode), 1, Integer::sum);
                return null;
            }
            if (kafka.code == 0 && given.ourCode == Errors.INVALID_RECORD.code()) {
                if (given.ourDetail.startsWith("Malformed(InvalidFieldLength")) {
                    outcomes.merge("Kafka reads a length below -1 as null, we refuse", 1, Integer::sum);
                    return null;
                }
                if (!readable(kafka.output)) {
                    outcomes.merge("Kafka appends what its own consumer cannot read, we refuse", 1, Integer::sum);
                    return null;
                }
            }
            if (kafka.code == Errors.INVALID_TIMESTAMP.code() && given.ourDetail.startsWith("Malformed")) {
                outcomes.merge("both refuse, we because of malformed records that Kafka does not see", 1, Integer::sum);
                return null;
            }
            if (given.ourDetail.startsWith("Decompress(Malformed(Lz4))")) {
                outcomes.merge("Kafka takes an lz4 block with a match at distance 0, we refuse", 1, Integer::sum);
                return null;
            }
            if (kafka.code == 0 && kafka.rebuilt && given.ourCode == Errors.MESSAGE_TOO_LARGE.code()
                && kafka.output.sizeInBytes() > given.maxBatchBytes * 0.6) {
                outcomes.merge("recompressed by us it is too large, by Kafka it just fits", 1, Integer::sum);
                return null;
            }
            return "verdicts differ";
        }
        if (kafka.code == -1 && given.ourRebuilt && kafka.detail.startsWith("java.lang.IllegalArgumentException")) {
            outcomes.merge("Kafka accepts odd timestamps and producers but cannot rebuild their batches, we can", 1, Integer::sum);
            return readable(given.ourRecords()) ? null : "unreadable";
        }
        if (kafka.code == -1 && given.ourRebuilt && kafka.detail.contains("is skipped in PartialDefaultRecord")) {
            outcomes.merge("Kafka fails on wrong offset deltas, we repair them", 1, Integer::sum);
            return readable(given.ourRecords()) ? null : "unreadable";
        }
        if (kafka.code == Errors.MESSAGE_TOO_LARGE.code() && kafka.rebuilt && given.ourRebuilt) {
            outcomes.merge("recompressed by Kafka it is too large, by us it just fits", 1, Integer::sum);
            return given.ourOutput.length > given.maxBatchBytes * 0.6 ? null : "ours is far smaller";
        }
        if (kafka.code != 0)
            return "we accept what Kafka refuses";
        if (given.ourMaxTimestamp != kafka.maxTimestamp)
            return "max timestamp " + kafka.maxTimestamp + ", ours " + given.ourMaxTimestamp;
        if (!given.ourRebuilt) {
            outcomes.merge("both accept, same bytes", 1, Integer::sum);
            return Arrays.equals(array(kafka.output.buffer()), given.ourOutput) ? null : "other bytes: " + hex(kafka.output.buffer());
        }
        MemoryRecords ours = given.ourRecords();
        boolean repaired = !kafka.rebuilt;
        outcomes.merge(repaired ? "Kafka appends wrong offset deltas, we repair them" : "both rebuild, same records", 1, Integer::sum);
        return sameRecords(kafka.output, ours, repaired);
    }

    private static boolean readable(MemoryRecords records) {
        try {
            for (RecordBatch batch : records.batches()) {
                batch.ensureValid();
                long offset = batch.baseOffset();
                for (Record record : batch)
                    if (record.headers() == null || record.offset() != offset++)
                        return false;
            }
            return true;
        } catch (RuntimeException error) {
            return false;
        }
    }

    private static String sameRecords(MemoryRecords kafka, MemoryRecords ours, boolean offsetsRepaired) {
        RecordBatch left = kafka.batches().iterator().next();
        RecordBatch right = ours.batches().iterator().next();
        right.ensureValid();
        if (left.baseOffset() != right.baseOffset() || left.lastOffset() != right.lastOffset()
            || left.compressionType() != right.compressionType() || left.timestampType() != right.timestampType()
            || left.maxTimestamp() != right.maxTimestamp() || left.producerId() != right.producerId()
            || left.producerEpoch() != right.producerEpoch() || left.baseSequence() != right.baseSequence()
            || left.isTransactional() != right.isTransactional() || left.isControlBatch() != right.isControlBatch()
            || left.partitionLeaderEpoch() != right.partitionLeaderEpoch() || !left.countOrNull().equals(right.countOrNull()))
            return "other header: " + left + ", ours " + right;
        var lefts = left.iterator();
        long offset = 0;
        for (Record record : right) {
            Record expected = lefts.next();
            if (record.offset() != (offsetsRepaired ? offset : expected.offset()) || record.timestamp() != expected.timestamp()
                || !Objects.equals(record.key(), expected.key()) || !Objects.equals(record.value(), expected.value())
                || !Arrays.equals(record.headers(), expected.headers()))
                return "other record: " + expected + ", ours " + record;
            offset++;
        }
        return lefts.hasNext() ? "fewer records" : null;
    }

    private static Time fixedTime(long nowMs) {
        return (Time) java.lang.reflect.Proxy.newProxyInstance(Time.class.getClassLoader(), new Class<?>[] {Time.class},
            (proxy, method, arguments) -> switch (method.getName()) {
                case "milliseconds" -> nowMs;
                case "nanoseconds" -> 0L;
                default -> throw new UnsupportedOperationException(method.getName());
            });
    }

    private static final class Unrecorded implements LogValidator.MetricsRecorder {
        @Override public void recordInvalidMagic() { }
        @Override public void recordInvalidOffset() { }
        @Override public void recordInvalidSequence() { }
        @Override public void recordInvalidChecksums() { }
        @Override public void recordNoKeyCompactedTopic() { }
    }

    private static byte[] array(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private static String hex(ByteBuffer buffer) {
        return HexFormat.of().formatHex(array(buffer));
    }

    private static byte[] unhex(String text) {
        return HexFormat.of().parseHex(text);
    }
}
