package main

import (
	"cmp"
	"context"
	"slices"

	"ottla/compat/drivers/driver"

	"github.com/segmentio/kafka-go"
)

// kafka-go has one function for each of these requests, and leaves the rest to its caller: no log directories, no records
// that are deleted, no ids of topics, no names of what assigns partitions.
type admin struct{ client *kafka.Client }

func adminOperations(client *kafka.Client) map[string]driver.Operation {
	a := &admin{client}
	return map[string]driver.Operation{
		"create_topic":              driver.Op(a.createTopic),
		"delete_topic":              driver.Op(a.deleteTopic),
		"metadata":                  driver.Op(a.metadata),
		"describe_cluster":          driver.Op(a.describeCluster),
		"describe_configs":          driver.Op(a.describeConfigs),
		"config_entries":            driver.Op(a.configEntries),
		"alter_configs":             driver.Op(a.alterConfigs),
		"incremental_alter_configs": driver.Op(a.incrementalAlterConfigs),
		"create_partitions":         driver.Op(a.createPartitions),
		"list_groups":               driver.Op(a.listGroups),
		"describe_group":            driver.Op(a.describeGroup),
		"group_offsets":             driver.Op(a.groupOffsets),
		"delete_group":              driver.Op(a.deleteGroup),
		"delete_offsets":            driver.Op(a.deleteOffsets),
	}
}

// first is the error of an answer about one thing.
func first[K comparable](errors map[K]error) error {
	for _, each := range errors {
		return each
	}
	return nil
}

func (a *admin) createTopic(args driver.CreateTopic) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	topic := kafka.TopicConfig{
		Topic: args.Name, NumPartitions: int(args.Partitions), ReplicationFactor: int(args.Replicas()),
	}
	for key, value := range args.Configs {
		topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	answer, err := a.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	if err != nil {
		return nil, err
	}
	return nil, first(answer.Errors)
}

func (a *admin) deleteTopic(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{args.Name}})
	if err != nil {
		return nil, err
	}
	return nil, first(answer.Errors)
}

func (a *admin) metadata(args driver.Named) (any, error) {
	request := &kafka.MetadataRequest{}
	if args.Topic != nil {
		request.Topics = []string{*args.Topic}
	}
	found, err := again(func(ctx context.Context) (*kafka.MetadataResponse, error) {
		found, err := a.client.Metadata(ctx, request)
		if err == nil && args.Topic != nil {
			err = found.Topics[0].Error
		}
		return found, err
	})
	if err != nil {
		return nil, err
	}
	brokers := []map[string]any{}
	for _, each := range found.Brokers {
		brokers = append(brokers, map[string]any{"id": each.ID, "host": each.Host, "port": each.Port})
	}
	topics := map[string]any{}
	for _, topic := range found.Topics {
		if topic.Error != nil {
			if args.Topic != nil {
				return nil, topic.Error
			}
			continue
		}
		slices.SortFunc(topic.Partitions, func(a, b kafka.Partition) int { return a.ID - b.ID })
		partitions := []map[string]any{}
		for _, each := range topic.Partitions {
			replicas := []int{}
			for _, replica := range each.Replicas {
				replicas = append(replicas, replica.ID)
			}
			partitions = append(partitions, map[string]any{
				"partition": each.ID, "leader": each.Leader.ID, "replicas": replicas,
			})
		}
		topics[topic.Name] = partitions
	}
	return map[string]any{"brokers": brokers, "topics": topics}, nil
}

func (a *admin) describeCluster(driver.Named) (any, error) {
	found, err := again(func(ctx context.Context) (*kafka.MetadataResponse, error) {
		return a.client.Metadata(ctx, &kafka.MetadataRequest{})
	})
	if err != nil {
		return nil, err
	}
	nodes := []int{}
	for _, each := range found.Brokers {
		nodes = append(nodes, each.ID)
	}
	return map[string]any{"cluster_id": found.ClusterID, "nodes": nodes}, nil
}

var kinds = map[string]kafka.ResourceType{"topic": kafka.ResourceTypeTopic, "broker": kafka.ResourceTypeBroker}

// The numbers of the protocol, under Java's names.
var sources = map[int8]string{
	1: "DYNAMIC_TOPIC_CONFIG", 2: "DYNAMIC_BROKER_CONFIG", 3: "DYNAMIC_DEFAULT_BROKER_CONFIG",
	4: "STATIC_BROKER_CONFIG", 5: "DEFAULT_CONFIG",
}

func (a *admin) entries(args driver.Named) ([]kafka.DescribeConfigResponseConfigEntry, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources:       []kafka.DescribeConfigRequestResource{{ResourceType: kinds[args.Kind], ResourceName: args.Name}},
		IncludeSynonyms: true,
	})
	if err != nil {
		return nil, err
	}
	return answer.Resources[0].ConfigEntries, answer.Resources[0].Error
}

func (a *admin) describeConfigs(args driver.Named) (any, error) {
	found, err := a.entries(args)
	values := map[string]string{}
	for _, each := range found {
		values[each.ConfigName] = each.ConfigValue
	}
	return values, err
}

func (a *admin) configEntries(args driver.Named) (any, error) {
	found, err := a.entries(args)
	entries := map[string]any{}
	for _, each := range found {
		synonyms := [][3]any{}
		for _, one := range each.ConfigSynonyms {
			synonyms = append(synonyms, [3]any{one.ConfigName, one.ConfigValue, sources[one.ConfigSource]})
		}
		entries[each.ConfigName] = map[string]any{
			"value": each.ConfigValue, "source": sources[each.ConfigSource], "read_only": each.ReadOnly,
			"sensitive": each.IsSensitive, "synonyms": synonyms,
		}
	}
	return entries, err
}

func (a *admin) alterConfigs(args driver.AlterConfigs) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	resource := kafka.AlterConfigRequestResource{ResourceType: kinds[args.Kind], ResourceName: args.Name}
	for key, value := range args.Set {
		resource.Configs = append(resource.Configs, kafka.AlterConfigRequestConfig{Name: key, Value: value})
	}
	answer, err := a.client.AlterConfigs(ctx, &kafka.AlterConfigsRequest{
		Resources: []kafka.AlterConfigRequestResource{resource}, ValidateOnly: args.ValidateOnly,
	})
	if err != nil {
		return nil, err
	}
	return nil, first(answer.Errors)
}

func (a *admin) incrementalAlterConfigs(args driver.AlterConfigs) (any, error) {
	operations := map[string]kafka.ConfigOperation{
		"set": kafka.ConfigOperationSet, "delete": kafka.ConfigOperationDelete,
		"append": kafka.ConfigOperationAppend, "subtract": kafka.ConfigOperationSubtract,
	}
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kinds[args.Kind], ResourceName: args.Name}
	for _, each := range args.Ops {
		config := kafka.IncrementalAlterConfigsRequestConfig{Name: *each[1], ConfigOperation: operations[*each[0]]}
		if each[2] != nil {
			config.Value = *each[2]
		}
		resource.Configs = append(resource.Configs, config)
	}
	// Done twice it is as if done once.
	answer, err := again(func(ctx context.Context) (*kafka.IncrementalAlterConfigsResponse, error) {
		return a.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
			Resources: []kafka.IncrementalAlterConfigsRequestResource{resource}, ValidateOnly: args.ValidateOnly,
		})
	})
	if err != nil {
		return nil, err
	}
	return nil, answer.Resources[0].Error
}

func (a *admin) createPartitions(args driver.OnPartition) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: args.Topic, Count: args.Total}},
	})
	if err != nil {
		return nil, err
	}
	return nil, first(answer.Errors)
}

func (a *admin) listGroups(driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	listed := []map[string]string{}
	for _, each := range answer.Groups {
		listed = append(listed, map[string]string{"group": each.GroupID, "type": each.ProtocolType})
	}
	return listed, answer.Error
}

func (a *admin) describeGroup(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{args.Group}})
	if err != nil {
		return nil, err
	}
	found := answer.Groups[0]
	members := []map[string]any{}
	for _, each := range found.Members {
		partitions := [][2]any{}
		for _, topic := range each.MemberAssignments.Topics {
			for _, number := range topic.Partitions {
				partitions = append(partitions, [2]any{topic.Topic, int32(number)})
			}
		}
		driver.SortPairs(partitions)
		members = append(members, map[string]any{
			"client_id": each.ClientID, "instance_id": nil, "partitions": partitions,
		})
	}
	return map[string]any{"state": driver.StateName(found.GroupState), "members": members}, found.Error
}

func (a *admin) groupOffsets(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: args.Group})
	if err != nil {
		return nil, err
	}
	listed := [][3]any{}
	for topic, partitions := range answer.Topics {
		for _, each := range partitions {
			listed = append(listed, [3]any{topic, each.Partition, each.CommittedOffset})
		}
	}
	slices.SortFunc(listed, func(a, b [3]any) int {
		return cmp.Or(cmp.Compare(a[0].(string), b[0].(string)), cmp.Compare(a[1].(int), b[1].(int)))
	})
	return listed, answer.Error
}

func (a *admin) deleteGroup(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{args.Group}})
	if err != nil {
		return nil, err
	}
	return nil, first(answer.Errors)
}

func (a *admin) deleteOffsets(args driver.OnPartition) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answer, err := a.client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{
		GroupID: args.Group, Topics: map[string][]int{args.Topic: {int(args.Partition)}},
	})
	if err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	for _, partitions := range answer.Topics {
		for _, each := range partitions {
			if each.Error != nil {
				return nil, each.Error
			}
		}
	}
	return nil, nil
}
