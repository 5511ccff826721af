import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.internals.RecordHeaders;

/** Producing, with one producer kept per configuration. */
final class Producing {
    private static final long DELIVERY_SECONDS = 50;

    private final String bootstrap;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new ConcurrentHashMap<>();

    Producing(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    Object produce(JsonNode args) {
        String topic = args.get("topic").asText();
        KafkaProducer<byte[], byte[]> producer = producers.computeIfAbsent(
            args.get("config").toString(),
            key -> new KafkaProducer<>(Settings.producer(bootstrap, args.get("config"))));
        long sentNs = System.nanoTime();
        List<Object> waiting = new ArrayList<>();
        for (JsonNode record : args.get("records")) {
            RecordHeaders headers = new RecordHeaders();
            record.get("headers").forEach(each -> headers.add(each.get(0).asText(), Json.bytes(each.get(1))));
            Long timestamp = record.hasNonNull("timestamp") ? record.get("timestamp").asLong() : null;
            try {
                waiting.add(producer.send(new ProducerRecord<>(
                    topic,
                    record.get("partition").asInt(),
                    timestamp,
                    Json.bytes(record.get("key")),
                    Json.bytes(record.get("value")),
                    headers)));
            } catch (Exception thrown) {
                waiting.add(thrown);
            }
        }
        producer.flush();
        List<Object> results = new ArrayList<>();
        for (Object each : waiting) {
            results.add(result(each));
        }
        return Map.of("results", results, "sent_ns", sentNs, "acked_ns", System.nanoTime());
    }

    private static Object result(Object sent) {
        try {
            if (sent instanceof Exception thrown) {
                throw thrown;
            }
            RecordMetadata metadata = (RecordMetadata) ((Future<?>) sent).get(DELIVERY_SECONDS, TimeUnit.SECONDS);
            Map<String, Object> fields = new HashMap<>();
            fields.put("partition", metadata.partition());
            fields.put("offset", metadata.hasOffset() ? metadata.offset() : null);
            return fields;
        } catch (Exception thrown) {
            DriverException error = DriverException.of(thrown);
            return Map.of("error", error.name, "message", error.getMessage());
        }
    }

    /** Every line of the file, without its newline, as one record of partition 0. */
    Object lines(JsonNode args) throws Exception {
        AtomicLong acked = new AtomicLong();
        AtomicReference<Exception> failure = new AtomicReference<>();
        Map<String, Object> settings = Settings.producer(bootstrap, args.get("config"));
        settings.put("linger.ms", "20");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings);
             InputStream input = new BufferedInputStream(Files.newInputStream(Path.of(args.get("path").asText())))) {
            ByteArrayOutputStream line = new ByteArrayOutputStream();
            for (int next = input.read(); next >= 0; next = input.read()) {
                if (next != '\n') {
                    line.write(next);
                    continue;
                }
                producer.send(
                    new ProducerRecord<>(args.get("topic").asText(), 0, null, line.toByteArray()),
                    (metadata, thrown) -> {
                        if (thrown == null) {
                            acked.incrementAndGet();
                        } else {
                            failure.compareAndSet(null, thrown);
                        }
                    });
                line.reset();
            }
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        return Map.of("count", acked.get());
    }
}
