import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;

/** The admin functions that the suite `admin` compares: each answer is what the admin client tells, in one shape. */
final class AdminFunctions {
    private final Cluster cluster;

    AdminFunctions(Cluster cluster) {
        this.cluster = cluster;
    }

    private Admin admin() {
        return cluster.admin();
    }

    private static TopicPartition partition(JsonNode args) {
        return new TopicPartition(args.get("topic").asText(), args.get("partition").asInt());
    }

    private static ConfigResource resource(JsonNode args) {
        return new ConfigResource(
            ConfigResource.Type.valueOf(args.get("kind").asText().toUpperCase()), args.get("name").asText());
    }

    Object createPartitions(JsonNode args) throws Exception {
        NewPartitions grown = NewPartitions.increaseTo(args.get("total").asInt());
        admin().createPartitions(Map.of(args.get("topic").asText(), grown)).all().get();
        return null;
    }

    Object deleteRecords(JsonNode args) throws Exception {
        TopicPartition partition = partition(args);
        RecordsToDelete before = RecordsToDelete.beforeOffset(args.get("offset").asLong());
        return admin().deleteRecords(Map.of(partition, before)).lowWatermarks().get(partition).get().lowWatermark();
    }

    Object configEntries(JsonNode args) throws Exception {
        ConfigResource resource = resource(args);
        Map<String, Object> entries = new TreeMap<>();
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true);
        for (ConfigEntry entry : admin().describeConfigs(List.of(resource), options).all().get().get(resource).entries()) {
            Map<String, Object> fields = new LinkedHashMap<>();
            fields.put("value", entry.value());
            fields.put("source", entry.source().name());
            fields.put("type", entry.type().name());
            fields.put("read_only", entry.isReadOnly());
            fields.put("sensitive", entry.isSensitive());
            List<Object> synonyms = new ArrayList<>();
            for (ConfigEntry.ConfigSynonym synonym : entry.synonyms()) {
                List<Object> listed = new ArrayList<>();
                listed.add(synonym.name());
                listed.add(synonym.value());
                listed.add(synonym.source().name());
                synonyms.add(listed);
            }
            fields.put("synonyms", synonyms);
            entries.put(entry.name(), fields);
        }
        return entries;
    }

    Object incrementalAlterConfigs(JsonNode args) throws Exception {
        List<AlterConfigOp> operations = new ArrayList<>();
        for (JsonNode each : args.get("ops")) {
            String value = each.get(2).isNull() ? null : each.get(2).asText();
            operations.add(new AlterConfigOp(
                new ConfigEntry(each.get(1).asText(), value),
                AlterConfigOp.OpType.valueOf(each.get(0).asText().toUpperCase())));
        }
        AlterConfigsOptions options = new AlterConfigsOptions().validateOnly(args.path("validate_only").asBoolean());
        admin().incrementalAlterConfigs(Map.of(resource(args), operations), options).all().get();
        return null;
    }

    Object describeLogDirs(JsonNode args) throws Exception {
        String topic = args.get("topic").asText();
        List<Integer> nodes = admin().describeCluster().nodes().get().stream().map(Node::id).toList();
        List<Object> directories = new ArrayList<>();
        for (Map<String, LogDirDescription> listed : admin().describeLogDirs(nodes).allDescriptions().get().values()) {
            for (LogDirDescription directory : listed.values()) {
                List<Object> partitions = new ArrayList<>();
                directory.replicaInfos().entrySet().stream()
                    .filter(entry -> entry.getKey().topic().equals(topic))
                    .sorted(Comparator.comparing(entry -> entry.getKey().partition()))
                    .forEach(entry -> partitions.add(List.of(
                        topic, entry.getKey().partition(), entry.getValue().size(), entry.getValue().offsetLag(),
                        entry.getValue().isFuture())));
                directories.add(Map.of(
                    "error", directory.error() == null ? "" : DriverException.nameOf(directory.error()),
                    "partitions", partitions,
                    "volume_known", directory.totalBytes().orElse(0) > 0 && directory.usableBytes().orElse(0) > 0));
            }
        }
        return directories;
    }

    private static TopicPartitionReplica replica(JsonNode args) {
        return new TopicPartitionReplica(
            args.get("topic").asText(), args.get("partition").asInt(), args.get("node").asInt());
    }

    /** The name of the error, or nothing. */
    Object alterReplicaLogDirs(JsonNode args) throws Exception {
        TopicPartitionReplica replica = replica(args);
        try {
            admin().alterReplicaLogDirs(Map.of(replica, args.get("path").asText())).values().get(replica).get();
            return "";
        } catch (ExecutionException refused) {
            return DriverException.nameOf(refused.getCause());
        }
    }

    Object describeReplicaLogDirs(JsonNode args) throws Exception {
        TopicPartitionReplica replica = replica(args);
        var found = admin().describeReplicaLogDirs(List.of(replica)).values().get(replica).get();
        Map<String, Object> place = new LinkedHashMap<>();
        place.put("current", found.getCurrentReplicaLogDir());
        place.put("future", found.getFutureReplicaLogDir());
        place.put("future_lag", found.getFutureReplicaOffsetLag());
        return place;
    }

    Object deleteGroup(JsonNode args) throws Exception {
        admin().deleteConsumerGroups(List.of(args.get("group").asText())).all().get();
        return null;
    }

    Object deleteOffsets(JsonNode args) throws Exception {
        admin().deleteConsumerGroupOffsets(args.get("group").asText(), Set.of(partition(args))).all().get();
        return null;
    }

    Object listOffsets(JsonNode args) throws Exception {
        OffsetSpec spec = switch (args.get("at").asText()) {
            case "earliest" -> OffsetSpec.earliest();
            case "latest" -> OffsetSpec.latest();
            case "max-timestamp" -> OffsetSpec.maxTimestamp();
            case "earliest-local" -> OffsetSpec.earliestLocal();
            default -> OffsetSpec.forTimestamp(args.get("timestamp").asLong());
        };
        TopicPartition partition = partition(args);
        var found = admin().listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
        return Map.of(
            "offset", found.offset(), "timestamp", found.timestamp(), "leader_epoch", found.leaderEpoch().orElse(-1));
    }

    Object groupOffsets(JsonNode args) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> found = admin()
            .listConsumerGroupOffsets(args.get("group").asText()).partitionsToOffsetAndMetadata().get();
        return found.entrySet().stream()
            .sorted(Comparator.comparing(entry -> entry.getKey().toString()))
            .map(entry -> List.of(entry.getKey().topic(), entry.getKey().partition(), entry.getValue().offset()))
            .toList();
    }

    Object describeProducers(JsonNode args) throws Exception {
        TopicPartition partition = partition(args);
        List<Object> listed = new ArrayList<>();
        for (ProducerState state
            : admin().describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers()) {
            listed.add(Map.of(
                "epoch", state.producerEpoch(), "last_sequence", state.lastSequence(),
                "coordinator_epoch", state.coordinatorEpoch().orElse(-1),
                "txn_start_offset", state.currentTransactionStartOffset().orElse(-1)));
        }
        return listed;
    }

    Object listConfigResources(JsonNode args) throws Exception {
        Set<ConfigResource.Type> kinds = new HashSet<>();
        args.get("kinds").forEach(each -> kinds.add(ConfigResource.Type.valueOf(each.asText().toUpperCase())));
        return admin().listConfigResources(kinds, new ListConfigResourcesOptions()).all().get().stream()
            .map(each -> List.of(each.type().name(), each.name()))
            .sorted(Comparator.comparing(Object::toString))
            .collect(Collectors.toList());
    }
}
