import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Topics, configurations and groups, by the admin client. */
final class Cluster {
    private final String bootstrap;
    private Admin admin;

    Cluster(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    synchronized Admin admin() {
        if (admin == null) {
            admin = Admin.create(Map.of(
                "bootstrap.servers", bootstrap, "reconnect.backoff.ms", "20", "reconnect.backoff.max.ms", "200"));
        }
        return admin;
    }

    Object createTopic(JsonNode args) throws Exception {
        Map<String, String> configs = new HashMap<>();
        args.get("configs").fields().forEachRemaining(entry -> configs.put(entry.getKey(), entry.getValue().asText()));
        short replicas = args.has("replication_factor") ? (short) args.get("replication_factor").asInt() : 1;
        NewTopic topic = new NewTopic(args.get("name").asText(), args.get("partitions").asInt(), replicas);
        admin().createTopics(List.of(topic.configs(configs))).all().get();
        return null;
    }

    Object deleteTopic(JsonNode args) throws Exception {
        admin().deleteTopics(List.of(args.get("name").asText())).all().get();
        return null;
    }

    Object metadata(JsonNode args) throws Exception {
        List<String> names = args.hasNonNull("topic")
            ? List.of(args.get("topic").asText())
            : new ArrayList<>(admin().listTopics().names().get());
        List<Object> brokers = new ArrayList<>();
        for (Node node : admin().describeCluster().nodes().get()) {
            brokers.add(Map.of("id", node.id(), "host", node.host(), "port", node.port()));
        }
        Map<String, Object> topics = new LinkedHashMap<>();
        for (var each : admin().describeTopics(names).topicNameValues().entrySet()) {
            TopicDescription described;
            try {
                described = each.getValue().get();
            } catch (ExecutionException gone) {
                if (!args.hasNonNull("topic") && gone.getCause() instanceof UnknownTopicOrPartitionException) {
                    continue; // deleted since it was listed
                }
                throw gone;
            }
            List<Object> partitions = new ArrayList<>();
            for (TopicPartitionInfo partition : described.partitions()) {
                partitions.add(Map.of(
                    "partition", partition.partition(),
                    "leader", partition.leader() == null ? -1 : partition.leader().id(),
                    "replicas", partition.replicas().stream().map(Node::id).toList()));
            }
            topics.put(described.name(), partitions);
        }
        return Map.of("brokers", brokers, "topics", topics);
    }

    Object topicId(JsonNode args) throws Exception {
        String name = args.get("name").asText();
        return admin().describeTopics(List.of(name)).allTopicNames().get().get(name).topicId().toString();
    }

    Object describeCluster() throws Exception {
        return Map.of(
            "cluster_id", admin().describeCluster().clusterId().get(),
            "nodes", admin().describeCluster().nodes().get().stream().map(Node::id).toList());
    }

    Object describeConfigs(JsonNode args) throws Exception {
        ConfigResource.Type type = ConfigResource.Type.valueOf(args.get("kind").asText().toUpperCase());
        ConfigResource resource = new ConfigResource(type, args.get("name").asText());
        Map<String, String> entries = new TreeMap<>();
        for (ConfigEntry entry : admin().describeConfigs(List.of(resource)).all().get().get(resource).entries()) {
            entries.put(entry.name(), entry.value());
        }
        return entries;
    }

    Object listGroups() throws Exception {
        List<Object> groups = new ArrayList<>();
        for (GroupListing group : admin().listGroups(new ListGroupsOptions()).all().get()) {
            String state = group.groupState().map(Enum::name).orElse("");
            groups.add(Map.of("group", group.groupId(), "state", state));
        }
        return groups;
    }

    Object describeGroup(JsonNode args) throws Exception {
        String group = args.get("group").asText();
        var described = admin().describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
        List<Object> members = new ArrayList<>();
        for (MemberDescription member : described.members()) {
            Map<String, Object> fields = new HashMap<>();
            fields.put("client_id", member.clientId());
            fields.put("instance_id", member.groupInstanceId().orElse(null));
            fields.put("partitions", Json.partitions(member.assignment().topicPartitions()));
            members.add(fields);
        }
        return Map.of(
            "state", described.groupState().name(), "assignor", described.partitionAssignor(), "members", members);
    }
}
