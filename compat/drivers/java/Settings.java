import com.fasterxml.jackson.databind.JsonNode;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A scenario's settings as the Java clients want them. */
final class Settings {
    private static final Map<String, String> ASSIGNORS = Map.of(
        "range", RangeAssignor.class.getName(),
        "roundrobin", RoundRobinAssignor.class.getName(),
        "cooperative-sticky", CooperativeStickyAssignor.class.getName());

    private Settings() {
    }

    static Map<String, Object> producer(String bootstrap, JsonNode config) {
        Map<String, Object> settings = common(bootstrap);
        settings.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
        settings.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
        add(settings, config);
        return settings;
    }

    static Map<String, Object> consumer(String bootstrap, JsonNode config) {
        Map<String, Object> settings = common(bootstrap);
        settings.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        settings.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        add(settings, config);
        return settings;
    }

    private static Map<String, Object> common(String bootstrap) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("reconnect.backoff.ms", "20");
        settings.put("reconnect.backoff.max.ms", "200");
        return settings;
    }

    private static void add(Map<String, Object> settings, JsonNode config) {
        if (config == null) {
            return;
        }
        config.fields().forEachRemaining(entry -> {
            String value = entry.getValue().asText();
            if (entry.getKey().equals(ConsumerConfig.PARTITION_ASSIGNMENT_STRATEGY_CONFIG)) {
                List<String> classes = Stream.of(value.split(",")).map(ASSIGNORS::get).collect(Collectors.toList());
                settings.put(entry.getKey(), classes);
            } else {
                settings.put(entry.getKey(), value);
            }
        });
    }
}
