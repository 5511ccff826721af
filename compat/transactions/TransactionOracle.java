import java.io.File;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.message.AbortedTxn;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.storage.internals.log.TransactionIndex;

/**
 * Writes a partition with transactions through Apache Kafka, and tells what Kafka makes of it.
 *
 * <p>{@code write BOOTSTRAP} writes, then prints what a consumer of committed records is given, and where it stops;
 * {@code dump DIRECTORY} prints the transaction indexes of the partition as Kafka reads them.
 */
final class TransactionOracle {
    private static final TopicPartition PARTITION = new TopicPartition("transactions", 0);
    private static final int STEPS = 90;

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "write" -> write(args[1]);
            case "dump" -> dump(new File(args[1]));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void write(String bootstrap) throws Exception {
        Map<String, Object> connection = Map.of("bootstrap.servers", bootstrap);
        try (Admin admin = Admin.create(connection)) {
            // Segments end by the records' own times: nothing waits for a clock.
            NewTopic topic = new NewTopic(PARTITION.topic(), Optional.of(1), Optional.empty())
                .configs(Map.of("segment.ms", "20000"));
            admin.createTopics(List.of(topic)).all().get(60, TimeUnit.SECONDS);
        }
        Random random = new Random(7);
        Clock clock = new Clock();
        try (KafkaProducer<String, String> plain = producer(bootstrap, null)) {
            List<Writer> writers = new ArrayList<>();
            for (int number = 0; number < 3; number++) {
                writers.add(new Writer(producer(bootstrap, "writer-" + number), number));
            }
            for (int step = 0; step < STEPS; step++) {
                long now = clock.next(random);
                Writer writer = writers.get(random.nextInt(writers.size()));
                switch (random.nextInt(6)) {
                    case 0 -> send(plain, now, "plain " + step);
                    case 1 -> writer.end(random.nextInt(3) == 0);
                    default -> writer.write(now, "step " + step, 1 + random.nextInt(3));
                }
            }
            // The first one stays open, and holds everything after it back.
            writers.get(1).end(false);
            writers.get(2).end(true);
            writers.get(0).end(false);
            writers.get(0).write(clock.next(random), "left open", 2);
            send(plain, clock.next(random), "behind what is open");
        }
        read(bootstrap);
        System.out.flush();
        // Not closed: that would abort what is to stay open.
        Runtime.getRuntime().halt(0);
    }

    /** The records' time: runs ahead of the markers', which is the broker's, so that a segment has some steps. */
    private static final class Clock {
        private long now = System.currentTimeMillis();

        long next(Random random) {
            now += random.nextInt(3_000);
            return now;
        }
    }

    private static final class Writer {
        private final KafkaProducer<String, String> producer;
        private final int number;
        private boolean open = false;

        Writer(KafkaProducer<String, String> producer, int number) {
            this.producer = producer;
            this.number = number;
            producer.initTransactions();
        }

        void write(long now, String value, int records) throws Exception {
            if (!open) {
                producer.beginTransaction();
                open = true;
            }
            for (int index = 0; index < records; index++) {
                producer.send(new ProducerRecord<>(PARTITION.topic(), 0, now, null, value + " of " + number + ", " + index));
            }
            producer.flush();
        }

        void end(boolean commit) {
            if (!open) {
                return;
            }
            if (commit) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
            open = false;
        }
    }

    private static void send(KafkaProducer<String, String> producer, long now, String value) throws Exception {
        producer.send(new ProducerRecord<>(PARTITION.topic(), 0, now, null, value)).get();
    }

    private static KafkaProducer<String, String> producer(String bootstrap, String transactionalId) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("acks", "all");
        settings.put("linger.ms", "100");
        settings.put("transaction.timeout.ms", "900000");
        if (transactionalId != null) {
            settings.put("transactional.id", transactionalId);
        }
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    private static void read(String bootstrap) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(List.of(PARTITION));
            consumer.seekToBeginning(List.of(PARTITION));
            long stable = consumer.endOffsets(List.of(PARTITION)).get(PARTITION);
            while (consumer.position(PARTITION) < stable) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println("committed " + record.offset() + " " + record.value());
                }
            }
            System.out.println("stable " + stable);
        }
    }

    private static void dump(File directory) throws Exception {
        File[] files = directory.listFiles((parent, name) -> name.endsWith(".txnindex"));
        Arrays.sort(files, Comparator.comparing(File::getName));
        for (File file : files) {
            long base = Long.parseLong(file.getName().substring(0, 20));
            TransactionIndex index = new TransactionIndex(base, file);
            for (AbortedTxn aborted : index.allAbortedTxns()) {
                System.out.println("aborted " + base + " " + aborted.producerId() + " " + aborted.firstOffset() + " "
                    + aborted.lastOffset() + " " + aborted.lastStableOffset());
            }
            index.close();
        }
    }
}
