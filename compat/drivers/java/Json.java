import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

/** Records and partitions as the protocol between runner and driver writes them. */
final class Json {
    private static final Comparator<TopicPartition> ORDER =
        Comparator.comparing(TopicPartition::topic).thenComparing(TopicPartition::partition);

    private Json() {
    }

    static byte[] bytes(JsonNode node) {
        return node == null || node.isNull() ? null : Base64.getDecoder().decode(node.asText());
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    static Map<String, Object> record(ConsumerRecord<byte[], byte[]> record, long arrivedNs) {
        List<Object> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            List<String> pair = new ArrayList<>();
            pair.add(header.key());
            pair.add(text(header.value()));
            headers.add(pair);
        }
        Map<String, Object> fields = new HashMap<>();
        fields.put("partition", record.partition());
        fields.put("offset", record.offset());
        boolean appended = record.timestampType() == TimestampType.LOG_APPEND_TIME;
        fields.put("timestamp_type", appended ? "LogAppendTime" : "CreateTime");
        fields.put("timestamp", record.timestamp());
        fields.put("key", text(record.key()));
        fields.put("value", text(record.value()));
        fields.put("headers", headers);
        fields.put("arrived_ns", arrivedNs);
        return fields;
    }

    static List<List<Object>> partitions(Collection<TopicPartition> partitions) {
        List<List<Object>> listed = new ArrayList<>();
        partitions.stream().sorted(ORDER).forEach(each -> listed.add(List.of(each.topic(), each.partition())));
        return listed;
    }
}
