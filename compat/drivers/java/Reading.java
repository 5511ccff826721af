import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.common.TopicPartition;

/** Reading assigned partitions up to a count or to their ends. */
final class Reading {
    private static final Duration POLL = Duration.ofMillis(200);

    private final String bootstrap;

    Reading(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    private interface Sink {
        void accept(ConsumerRecord<byte[], byte[]> record) throws Exception;
    }

    Object read(JsonNode args) throws Exception {
        List<TopicPartition> partitions = new ArrayList<>();
        args.get("partitions").forEach(each -> partitions.add(new TopicPartition(args.get("topic").asText(), each.asInt())));
        long end = System.nanoTime() + (long) (args.get("timeout_s").asDouble() * 1e9);
        long count = args.hasNonNull("count") ? args.get("count").asLong() : -1;
        List<Object> records = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(args)) {
            consumer.assign(partitions);
            start(consumer, partitions, args.get("start"));
            // The Java client has no end-of-partition event: its position tells.
            Map<TopicPartition, Long> ends = count < 0 ? consumer.endOffsets(partitions) : Map.of();
            while (count >= 0 ? records.size() < count : !atEnd(consumer, ends)) {
                if (System.nanoTime() > end) {
                    throw new DriverException("READ_TIMEOUT", records.size() + " records");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    if (count < 0 || records.size() < count) {
                        records.add(Json.record(record, System.nanoTime()));
                    }
                }
            }
        }
        Object ended = count < 0 ? partitions.stream().map(TopicPartition::partition).toList() : List.of();
        return Map.of("records", records, "ended", ended);
    }

    Object offsets(JsonNode args) {
        TopicPartition partition = new TopicPartition(args.get("topic").asText(), args.get("partition").asInt());
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Main.JSON.createObjectNode())) {
            return switch (args.get("at").asText()) {
                case "beginning" -> consumer.beginningOffsets(List.of(partition)).get(partition);
                case "end" -> consumer.endOffsets(List.of(partition)).get(partition);
                default -> {
                    long timestamp = args.get("timestamp").asLong();
                    OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, timestamp)).get(partition);
                    yield found == null ? -1L : found.offset();
                }
            };
        }
    }

    /** The SHA-256 of partition 0's values, each followed by a newline, in order. */
    Object digest(JsonNode args) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        long[] count = {0};
        untilEnd(args, 1, record -> {
            if (record.offset() != count[0]) {
                throw new DriverException("OFFSET_GAP", "record " + count[0] + " has the offset " + record.offset());
            }
            digest.update(record.value());
            digest.update((byte) '\n');
            count[0]++;
        });
        return Map.of("count", count[0], "sha256", HexFormat.of().formatHex(digest.digest()));
    }

    /** Writes `partition offset value` for every record. */
    Object dump(JsonNode args) throws Exception {
        long[] count = {0};
        try (BufferedWriter output = Files.newBufferedWriter(Path.of(args.get("path").asText()))) {
            untilEnd(args, args.get("partitions").asInt(), record -> {
                String value = new String(record.value(), StandardCharsets.UTF_8);
                output.write(record.partition() + " " + record.offset() + " " + value + "\n");
                count[0]++;
            });
        }
        return Map.of("count", count[0]);
    }

    private void untilEnd(JsonNode args, int partitionCount, Sink sink) throws Exception {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < partitionCount; partition++) {
            partitions.add(new TopicPartition(args.get("topic").asText(), partition));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(args)) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (!atEnd(consumer, ends)) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    sink.accept(record);
                }
            }
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(JsonNode args) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("auto.offset.reset", "none");
        settings.putAll(Settings.consumer(bootstrap, args.get("config")));
        return new KafkaConsumer<>(settings);
    }

    private static boolean atEnd(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends) {
        for (Map.Entry<TopicPartition, Long> entry : ends.entrySet()) {
            // Beyond the end is not the end: an offset out of range is about to be reset or refused.
            if (consumer.position(entry.getKey()) != entry.getValue()) {
                return false;
            }
        }
        return true;
    }

    private static void start(
        KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, JsonNode start) {
        switch (start.get("at").asText()) {
            case "beginning" -> consumer.seekToBeginning(partitions);
            case "end" -> consumer.seekToEnd(partitions);
            case "offset" -> partitions.forEach(each -> consumer.seek(each, start.get("value").asLong()));
            default -> {
                Map<TopicPartition, Long> asked = new HashMap<>();
                partitions.forEach(each -> asked.put(each, start.get("value").asLong()));
                consumer.offsetsForTimes(asked).forEach((partition, found) -> {
                    if (found == null) {
                        consumer.seekToEnd(List.of(partition));
                    } else {
                        consumer.seek(partition, found.offset());
                    }
                });
            }
        }
    }
}
