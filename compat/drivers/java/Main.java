import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.kafka.common.utils.internals.AppInfoParser;

/** The driver of Apache's Java clients: JSON lines on stdin, one answer each on stdout, requests side by side. */
public final class Main {
    static final ObjectMapper JSON = new ObjectMapper();

    private static final String[] CAPABILITIES = {
        "admin", "assign", "cluster-configs", "commit", "cooperative", "empties", "empty-records", "eof", "fencing", "group",
        "group-protocol", "idempotence", "load", "log-append-time", "lz4", "name-errors", "no-reset", "null-headers", "offset-reset",
        "offsets-of-acks", "ordered-headers", "range", "reconnect", "roundrobin", "seek", "snappy", "static", "timestamps",
        "wire", "zstd",
        "alter_replica_log_dirs", "config_entries", "create_partitions", "delete_group", "delete_offsets", "delete_records",
        "describe_log_dirs", "describe_producers", "group_offsets", "incremental_alter_configs",
        "list_config_resources", "list_offsets"
    };

    private interface Operation {
        Object run(JsonNode args) throws Exception;
    }

    private final Map<String, PolledConsumer> consumers = new ConcurrentHashMap<>();
    private final Map<String, Load> loads = new ConcurrentHashMap<>();
    private String bootstrap;
    private Cluster cluster;
    private AdminFunctions functions;
    private Producing producing;
    private Reading reading;

    public static void main(String[] arguments) throws Exception {
        new Main().serve();
    }

    private void serve() throws Exception {
        Map<String, Operation> operations = operations();
        PrintStream output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        ExecutorService threads = Executors.newCachedThreadPool();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            JsonNode request = JSON.readTree(line);
            threads.execute(() -> {
                ObjectNode answer = JSON.createObjectNode().put("id", request.get("id").asInt());
                try {
                    Operation operation = operations.get(request.get("op").asText());
                    if (operation == null) {
                        throw new DriverException("NO_SUCH_OPERATION", request.get("op").asText());
                    }
                    answer.set("result", JSON.valueToTree(operation.run(request.get("args"))));
                } catch (Throwable thrown) {
                    if (!(thrown instanceof DriverException)) {
                        thrown.printStackTrace();
                    }
                    DriverException error = DriverException.of(thrown);
                    answer.putObject("error").put("name", error.name).put("message", error.getMessage());
                }
                synchronized (output) {
                    output.println(answer);
                    output.flush();
                }
            });
        }
        System.exit(0);
    }

    private Map<String, Operation> operations() {
        return Map.ofEntries(
            Map.entry("hello", this::hello),
            Map.entry("create_topic", args -> cluster.createTopic(args)),
            Map.entry("delete_topic", args -> cluster.deleteTopic(args)),
            Map.entry("metadata", args -> cluster.metadata(args)),
            Map.entry("topic_id", args -> cluster.topicId(args)),
            Map.entry("describe_cluster", args -> cluster.describeCluster()),
            Map.entry("describe_configs", args -> cluster.describeConfigs(args)),
            Map.entry("list_groups", args -> cluster.listGroups()),
            Map.entry("describe_group", args -> cluster.describeGroup(args)),
            Map.entry("produce", args -> producing.produce(args)),
            Map.entry("read", args -> reading.read(args)),
            Map.entry("offsets", args -> reading.offsets(args)),
            Map.entry("produce_lines", args -> producing.lines(args)),
            Map.entry("digest", args -> reading.digest(args)),
            Map.entry("dump", args -> reading.dump(args)),
            Map.entry("consumer_open", args -> {
                consumers.put(args.get("id").asText(), new PolledConsumer(bootstrap, args));
                return null;
            }),
            Map.entry("consumer_state", args -> consumers.get(args.get("id").asText()).state()),
            Map.entry("consumer_take", args -> consumers.get(args.get("id").asText()).take()),
            Map.entry("consumer_do", args -> consumers.get(args.get("id").asText()).act(args)),
            Map.entry("consumer_close", args -> {
                consumers.remove(args.get("id").asText()).close();
                return null;
            }),
            Map.entry("load_start", args -> {
                loads.put(args.get("id").asText(), new Load(bootstrap, args));
                return null;
            }),
            Map.entry("load_state", args -> loads.get(args.get("id").asText()).state()),
            Map.entry("load_stop", args -> loads.remove(args.get("id").asText()).stop()),
            Map.entry("wire", Wire::exchange),
            Map.entry("create_partitions", args -> functions.createPartitions(args)),
            Map.entry("delete_records", args -> functions.deleteRecords(args)),
            Map.entry("config_entries", args -> functions.configEntries(args)),
            Map.entry("incremental_alter_configs", args -> functions.incrementalAlterConfigs(args)),
            Map.entry("describe_log_dirs", args -> functions.describeLogDirs(args)),
            Map.entry("alter_replica_log_dirs", args -> functions.alterReplicaLogDirs(args)),
            Map.entry("describe_replica_log_dirs", args -> functions.describeReplicaLogDirs(args)),
            Map.entry("delete_group", args -> functions.deleteGroup(args)),
            Map.entry("delete_offsets", args -> functions.deleteOffsets(args)),
            Map.entry("list_offsets", args -> functions.listOffsets(args)),
            Map.entry("group_offsets", args -> functions.groupOffsets(args)),
            Map.entry("describe_producers", args -> functions.describeProducers(args)),
            Map.entry("list_config_resources", args -> functions.listConfigResources(args)));
    }

    private Object hello(JsonNode args) {
        bootstrap = args.get("bootstrap").asText();
        cluster = new Cluster(bootstrap);
        functions = new AdminFunctions(cluster);
        producing = new Producing(bootstrap);
        reading = new Reading(bootstrap);
        ObjectNode answer = JSON.createObjectNode();
        answer.put("client", "java");
        answer.put("version", "kafka-clients " + AppInfoParser.getVersion() + ", Java " + Runtime.version().feature());
        ArrayNode capabilities = answer.putArray("capabilities");
        for (String capability : CAPABILITIES) {
            capabilities.add(capability);
        }
        return answer;
    }
}
