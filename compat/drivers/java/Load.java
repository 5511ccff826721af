import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/**
 * An idempotent producer that goes on until stopped and writes `partition sequence offset` per acknowledgement.
 * A record's value is `producer sequence`; each partition has its own sequence.
 */
final class Load {
    private final String name;
    private final String topic;
    private final long[] sequences;
    private final int recordsPerSecond;
    private final String padding;
    private final BufferedWriter acks;
    private final KafkaProducer<byte[], byte[]> producer;
    private final AtomicLong sent = new AtomicLong();
    private final AtomicLong acked = new AtomicLong();
    private final List<String> failures = new CopyOnWriteArrayList<>();
    private final Thread thread;
    private volatile boolean stopping;

    Load(String bootstrap, JsonNode args) throws IOException {
        name = args.get("id").asText();
        topic = args.get("topic").asText();
        sequences = new long[args.get("partitions").asInt()];
        recordsPerSecond = args.get("records_per_s").asInt();
        padding = ".".repeat(args.get("size").asInt());
        acks = Files.newBufferedWriter(Path.of(args.get("ack_path").asText()));
        Map<String, Object> settings = Settings.producer(bootstrap, null);
        settings.put("acks", "all");
        settings.put("enable.idempotence", "true");
        settings.put("linger.ms", "2");
        settings.put("delivery.timeout.ms", String.valueOf(Integer.MAX_VALUE));
        settings.put("max.block.ms", "600000");
        settings.put("buffer.memory", "4194304");
        settings.put("retry.backoff.ms", "20");
        settings.put("retry.backoff.max.ms", "200");
        producer = new KafkaProducer<>(settings);
        thread = new Thread(this::run, "load " + name);
        thread.setDaemon(true);
        thread.start();
    }

    Map<String, Object> state() {
        return Map.of("sent", sent.get(), "acked", acked.get(), "failures", failures.stream().limit(5).toList());
    }

    Object stop() throws Exception {
        stopping = true;
        thread.join();
        producer.flush();
        producer.close();
        synchronized (acks) {
            acks.close();
        }
        return Map.of("sent", sent.get(), "acked", acked.get(), "failures", failures.stream().limit(5).toList(), "left", 0);
    }

    private void run() {
        long paceStart = System.nanoTime();
        long paced = 0;
        while (!stopping) {
            long due = (long) ((System.nanoTime() - paceStart) / 1e9 * recordsPerSecond);
            if (due - paced > recordsPerSecond) {
                // `send` blocked while the broker was away: the pace starts anew instead of catching up.
                paceStart = System.nanoTime();
                paced = 0;
                continue;
            }
            for (; paced < due && !stopping; paced++) {
                send((int) (sent.get() % sequences.length));
            }
            LockSupport.parkNanos(5_000_000);
        }
    }

    private void send(int partition) {
        long sequence = sequences[partition];
        byte[] value = (name + " " + sequence + " " + padding).getBytes(StandardCharsets.UTF_8);
        try {
            producer.send(new ProducerRecord<>(topic, partition, null, value), (metadata, thrown) -> {
                if (thrown == null) {
                    acknowledged(metadata, sequence);
                } else {
                    failures.add("sequence " + sequence + ": " + DriverException.nameOf(thrown) + ": " + thrown);
                }
            });
            sequences[partition]++;
            sent.incrementAndGet();
        } catch (RuntimeException thrown) {
            failures.add("send: " + thrown);
            stopping = true;
        }
    }

    private void acknowledged(RecordMetadata metadata, long sequence) {
        acked.incrementAndGet();
        synchronized (acks) {
            try {
                acks.write(metadata.partition() + " " + sequence + " " + metadata.offset() + "\n");
            } catch (IOException thrown) {
                failures.add("acknowledgement not written: " + thrown);
            }
        }
    }
}
