import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** A consumer that is polled all the time in a thread of its own. Actions run between polls. */
final class PolledConsumer implements ConsumerRebalanceListener {
    private static final Duration POLL = Duration.ofMillis(50);
    private static final long ACTION_SECONDS = 40;

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final List<Object> records = new ArrayList<>();
    private final List<Object> history = new ArrayList<>();
    private final List<String> errors = new ArrayList<>();
    private final Queue<Runnable> actions = new ConcurrentLinkedQueue<>();
    private final Thread thread;
    private volatile boolean closing;
    private long received;
    private List<List<Object>> assignment = List.of();

    PolledConsumer(String bootstrap, JsonNode args) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("auto.offset.reset", "earliest");
        if (args.hasNonNull("group")) {
            settings.put("group.id", args.get("group").asText());
        }
        settings.putAll(Settings.consumer(bootstrap, args.get("config")));
        consumer = new KafkaConsumer<>(settings);
        if (args.hasNonNull("topics")) {
            List<String> topics = new ArrayList<>();
            args.get("topics").forEach(each -> topics.add(each.asText()));
            consumer.subscribe(topics, this);
        } else {
            assign(args.get("assign"));
        }
        thread = new Thread(this::run, "consumer " + args.get("id").asText());
        thread.setDaemon(true);
        thread.start();
    }

    private void assign(JsonNode points) {
        Map<TopicPartition, Long> starts = new HashMap<>();
        points.forEach(each ->
            starts.put(new TopicPartition(each.get(0).asText(), each.get(1).asInt()), each.get(2).asLong()));
        consumer.assign(starts.keySet());
        starts.forEach((partition, offset) -> {
            if (offset == -1) {
                consumer.seekToEnd(List.of(partition));
            } else if (offset == -2) {
                consumer.seekToBeginning(List.of(partition));
            } else {
                consumer.seek(partition, offset);
            }
        });
    }

    synchronized Object state() {
        return Map.of(
            "assignment", assignment,
            "history", List.copyOf(history),
            "received", received,
            "errors", List.copyOf(errors));
    }

    synchronized Object take() {
        List<Object> taken = List.copyOf(records);
        records.clear();
        return Map.of("records", taken);
    }

    Object act(JsonNode args) throws Exception {
        CompletableFuture<Object> done = new CompletableFuture<>();
        actions.add(() -> {
            try {
                done.complete(action(args).call());
            } catch (Exception thrown) {
                done.completeExceptionally(thrown);
            }
        });
        return done.get(ACTION_SECONDS, TimeUnit.SECONDS);
    }

    void close() throws InterruptedException {
        closing = true;
        thread.join(TimeUnit.SECONDS.toMillis(ACTION_SECONDS));
    }

    private Callable<Object> action(JsonNode args) {
        return switch (args.get("action").asText()) {
            case "commit" -> () -> commit(args);
            case "committed" -> () -> {
                Set<TopicPartition> asked = new HashSet<>(partitions(args.get("partitions")));
                Map<TopicPartition, OffsetAndMetadata> found = consumer.committed(asked);
                return offsets(partitions(args.get("partitions")), each ->
                    found.get(each) == null ? -1 : found.get(each).offset());
            };
            case "position" -> () -> offsets(partitions(args.get("partitions")), consumer::position);
            case "seek" -> () -> {
                TopicPartition partition = new TopicPartition(args.get("topic").asText(), args.get("partition").asInt());
                consumer.seek(partition, args.get("offset").asLong());
                return null;
            };
            default -> throw new IllegalArgumentException("no such action: " + args);
        };
    }

    private Object commit(JsonNode args) {
        boolean sync = args.get("mode").asText().equals("sync");
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        if (args.hasNonNull("offsets")) {
            args.get("offsets").forEach(each -> offsets.put(
                new TopicPartition(each.get(0).asText(), each.get(1).asInt()),
                new OffsetAndMetadata(each.get(2).asLong())));
        }
        if (sync && offsets.isEmpty()) {
            consumer.commitSync();
        } else if (sync) {
            consumer.commitSync(offsets);
        } else if (offsets.isEmpty()) {
            consumer.commitAsync();
        } else {
            consumer.commitAsync(offsets, null);
        }
        return null;
    }

    private interface OffsetOf {
        long get(TopicPartition partition);
    }

    private static Object offsets(List<TopicPartition> partitions, OffsetOf offsetOf) {
        List<Object> listed = new ArrayList<>();
        for (TopicPartition partition : partitions) {
            listed.add(List.of(partition.topic(), partition.partition(), offsetOf.get(partition)));
        }
        return listed;
    }

    private static List<TopicPartition> partitions(JsonNode listed) {
        List<TopicPartition> partitions = new ArrayList<>();
        listed.forEach(each -> partitions.add(new TopicPartition(each.get(0).asText(), each.get(1).asInt())));
        return partitions;
    }

    private void run() {
        while (!closing) {
            for (Runnable action = actions.poll(); action != null; action = actions.poll()) {
                action.run();
            }
            try {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    long arrivedNs = System.nanoTime();
                    synchronized (this) {
                        received++;
                        records.add(Json.record(record, arrivedNs));
                    }
                }
            } catch (Exception thrown) {
                synchronized (this) {
                    errors.add(DriverException.nameOf(thrown));
                }
            }
            synchronized (this) {
                assignment = Json.partitions(consumer.assignment());
            }
        }
        consumer.close();
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        remember("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        remember("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        remember("lost", partitions);
    }

    private synchronized void remember(String event, Collection<TopicPartition> partitions) {
        history.add(Map.of("event", event, "partitions", Json.partitions(partitions)));
    }
}
