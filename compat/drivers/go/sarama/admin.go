package main

import (
	"strings"

	"ottla/compat/drivers/driver"

	"github.com/IBM/sarama"
)

type admin struct{ bootstrap string }

func adminOperations(bootstrap string) map[string]driver.Operation {
	a := &admin{bootstrap}
	return map[string]driver.Operation{
		"create_topic":              driver.Op(a.createTopic),
		"delete_topic":              driver.Op(a.deleteTopic),
		"metadata":                  driver.Op(a.metadata),
		"topic_id":                  driver.Op(a.topicID),
		"describe_cluster":          driver.Op(a.describeCluster),
		"describe_configs":          driver.Op(a.describeConfigs),
		"config_entries":            driver.Op(a.configEntries),
		"list_groups":               driver.Op(a.listGroups),
		"describe_group":            driver.Op(a.describeGroup),
		"create_partitions":         driver.Op(a.createPartitions),
		"delete_records":            driver.Op(a.deleteRecords),
		"alter_configs":             driver.Op(a.alterConfigs),
		"incremental_alter_configs": driver.Op(a.incrementalAlterConfigs),
		"describe_log_dirs":         driver.Op(a.describeLogDirs),
		"delete_group":              driver.Op(a.deleteGroup),
		"delete_offsets":            driver.Op(a.deleteOffsets),
		"list_offsets":              driver.Op(a.listOffsets),
		"group_offsets":             driver.Op(a.groupOffsets),
	}
}

// with opens an admin client for one call: it keeps no stale metadata over restarts of the broker.
func with[T any](a *admin, run func(sarama.ClusterAdmin, sarama.Client) (T, error)) (any, error) {
	config := common()
	config.Metadata.AllowAutoTopicCreation = false
	client, err := sarama.NewClient([]string{a.bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	cluster, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, err
	}
	result, err := run(cluster, client)
	if err != nil {
		return nil, err
	}
	return result, nil
}

func done(a *admin, run func(sarama.ClusterAdmin) error) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, _ sarama.Client) (any, error) { return nil, run(cluster) })
}

func (a *admin) createTopic(args driver.CreateTopic) (any, error) {
	configs := map[string]*string{}
	for key, value := range args.Configs {
		configs[key] = &value
	}
	return done(a, func(cluster sarama.ClusterAdmin) error {
		return cluster.CreateTopic(args.Name, &sarama.TopicDetail{
			NumPartitions: args.Partitions, ReplicationFactor: args.Replicas(), ConfigEntries: configs,
		}, false)
	})
}

func (a *admin) deleteTopic(args driver.Named) (any, error) {
	return done(a, func(cluster sarama.ClusterAdmin) error { return cluster.DeleteTopic(args.Name) })
}

func (a *admin) metadata(args driver.Named) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, client sarama.Client) (any, error) {
		names := []string{}
		if args.Topic != nil {
			names = append(names, *args.Topic)
		} else {
			listed, err := cluster.ListTopics()
			if err != nil {
				return nil, err
			}
			for name := range listed {
				names = append(names, name)
			}
		}
		brokers := []map[string]any{}
		for _, each := range client.Brokers() {
			host, port, err := hostAndPort(each.Addr())
			if err != nil {
				return nil, err
			}
			brokers = append(brokers, map[string]any{"id": each.ID(), "host": host, "port": port})
		}
		topics := map[string]any{}
		if len(names) == 0 {
			return map[string]any{"brokers": brokers, "topics": topics}, nil
		}
		described, err := cluster.DescribeTopics(names)
		if err != nil {
			return nil, err
		}
		for _, topic := range described {
			if topic.Err != sarama.ErrNoError {
				if args.Topic != nil {
					return nil, topic.Err
				}
				continue
			}
			partitions := []map[string]any{}
			for _, each := range topic.Partitions {
				partitions = append(partitions, map[string]any{
					"partition": each.ID, "leader": each.Leader, "replicas": each.Replicas,
				})
			}
			topics[topic.Name] = partitions
		}
		return map[string]any{"brokers": brokers, "topics": topics}, nil
	})
}

func (a *admin) topicID(args driver.Named) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, _ sarama.Client) (any, error) {
		described, err := cluster.DescribeTopics([]string{args.Name})
		if err != nil {
			return nil, err
		}
		if described[0].Err != sarama.ErrNoError {
			return nil, described[0].Err
		}
		return described[0].Uuid.String(), nil
	})
}

func (a *admin) describeCluster(driver.Named) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, client sarama.Client) (any, error) {
		brokers, _, err := cluster.DescribeCluster()
		if err != nil {
			return nil, err
		}
		nodes := []int32{}
		for _, each := range brokers {
			nodes = append(nodes, each.ID())
		}
		// ClusterAdmin does not tell the cluster's id: the metadata does.
		controller, err := cluster.Controller()
		if err != nil {
			return nil, err
		}
		found, err := controller.GetMetadata(sarama.NewMetadataRequest(common().Version, nil))
		if err != nil {
			return nil, err
		}
		return map[string]any{"cluster_id": found.ClusterID, "nodes": nodes}, nil
	})
}

var kinds = map[string]sarama.ConfigResourceType{
	"topic": sarama.TopicResource, "broker": sarama.BrokerResource, "broker_logger": sarama.BrokerLoggerResource,
}

func (a *admin) entries(args driver.Named) ([]sarama.ConfigEntry, error) {
	found, err := with(a, func(cluster sarama.ClusterAdmin, _ sarama.Client) ([]*sarama.ConfigResourceResult, error) {
		resource := &sarama.ConfigResource{Type: kinds[args.Kind], Name: args.Name}
		return cluster.DescribeConfigs([]*sarama.ConfigResource{resource}, sarama.DescribeConfigsOptions{IncludeSynonyms: true})
	})
	if err != nil {
		return nil, err
	}
	result := found.([]*sarama.ConfigResourceResult)[0]
	if result.ErrorCode != sarama.ErrNoError {
		return nil, result.ErrorCode
	}
	return result.Configs, nil
}

func (a *admin) describeConfigs(args driver.Named) (any, error) {
	found, err := a.entries(args)
	values := map[string]string{}
	for _, each := range found {
		values[each.Name] = each.Value
	}
	return values, err
}

func (a *admin) configEntries(args driver.Named) (any, error) {
	found, err := a.entries(args)
	entries := map[string]any{}
	for _, each := range found {
		synonyms := [][3]any{}
		for _, synonym := range each.Synonyms {
			synonyms = append(synonyms, [3]any{synonym.ConfigName, synonym.ConfigValue, synonym.Source.String()})
		}
		entries[each.Name] = map[string]any{
			"value": each.Value, "source": each.Source.String(), "read_only": each.ReadOnly, "sensitive": each.Sensitive,
			"synonyms": synonyms,
		}
	}
	return entries, err
}

func (a *admin) alterConfigs(args driver.AlterConfigs) (any, error) {
	entries := map[string]*string{}
	for key, value := range args.Set {
		entries[key] = &value
	}
	return done(a, func(cluster sarama.ClusterAdmin) error {
		return cluster.AlterConfig(kinds[args.Kind], args.Name, entries, args.ValidateOnly)
	})
}

func (a *admin) incrementalAlterConfigs(args driver.AlterConfigs) (any, error) {
	operations := map[string]sarama.IncrementalAlterConfigsOperation{
		"set":    sarama.IncrementalAlterConfigsOperationSet,
		"delete": sarama.IncrementalAlterConfigsOperationDelete,
		"append": sarama.IncrementalAlterConfigsOperationAppend,
		// Sarama's name for it.
		"subtract": sarama.IncrementalAlterConfigsOperationSubtract,
	}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for _, each := range args.Ops {
		entries[*each[1]] = sarama.IncrementalAlterConfigsEntry{Operation: operations[*each[0]], Value: each[2]}
	}
	return done(a, func(cluster sarama.ClusterAdmin) error {
		return cluster.IncrementalAlterConfig(kinds[args.Kind], args.Name, entries, args.ValidateOnly)
	})
}

func (a *admin) createPartitions(args driver.OnPartition) (any, error) {
	return done(a, func(cluster sarama.ClusterAdmin) error {
		return cluster.CreatePartitions(args.Topic, args.Total, nil, false)
	})
}

func (a *admin) deleteRecords(args driver.OnPartition) (any, error) {
	return done(a, func(cluster sarama.ClusterAdmin) error {
		return cluster.DeleteRecords(args.Topic, map[int32]int64{args.Partition: args.Offset})
	})
}

func (a *admin) deleteGroup(args driver.Named) (any, error) {
	return done(a, func(cluster sarama.ClusterAdmin) error { return cluster.DeleteConsumerGroup(args.Group) })
}

func (a *admin) deleteOffsets(args driver.OnPartition) (any, error) {
	return done(a, func(cluster sarama.ClusterAdmin) error {
		return cluster.DeleteConsumerGroupOffset(args.Group, args.Topic, args.Partition)
	})
}

func (a *admin) listOffsets(args driver.OnPartition) (any, error) {
	at := map[string]int64{"earliest": sarama.OffsetOldest, "latest": sarama.OffsetNewest, "timestamp": args.Timestamp}
	time, known := at[args.At]
	if !known {
		return nil, driver.Errorf("NOT_IN_THIS_CLIENT", "%s", args.At)
	}
	return with(a, func(_ sarama.ClusterAdmin, client sarama.Client) (any, error) {
		offset, err := client.GetOffset(args.Topic, args.Partition, time)
		return map[string]any{"offset": offset}, err
	})
}

func (a *admin) groupOffsets(args driver.Named) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, _ sarama.Client) (any, error) {
		found, err := cluster.ListConsumerGroupOffsets(args.Group, nil)
		if err != nil {
			return nil, err
		}
		pairs := [][2]any{}
		for topic, partitions := range found.Blocks {
			for partition := range partitions {
				pairs = append(pairs, [2]any{topic, partition})
			}
		}
		driver.SortPairs(pairs)
		listed := [][3]any{}
		for _, each := range pairs {
			block := found.GetBlock(each[0].(string), each[1].(int32))
			listed = append(listed, [3]any{each[0], each[1], block.Offset})
		}
		return listed, nil
	})
}

func (a *admin) describeLogDirs(args driver.Named) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, client sarama.Client) (any, error) {
		ids := []int32{}
		for _, each := range client.Brokers() {
			ids = append(ids, each.ID())
		}
		found, err := cluster.DescribeLogDirs(ids)
		if err != nil {
			return nil, err
		}
		directories := []any{}
		for _, listed := range found {
			for _, directory := range listed {
				partitions := [][]any{}
				for _, topic := range directory.Topics {
					if topic.Topic != *args.Topic {
						continue
					}
					for _, each := range topic.Partitions {
						partitions = append(partitions, []any{topic.Topic, each.PartitionID, each.Size, each.OffsetLag, each.IsTemporary})
					}
				}
				failed := ""
				if directory.ErrorCode != sarama.ErrNoError {
					failed = errorName(directory.ErrorCode)
				}
				directories = append(directories, map[string]any{
					"error": failed, "partitions": partitions,
					"volume_known": directory.TotalBytes > 0 && directory.UsableBytes > 0,
				})
			}
		}
		return directories, nil
	})
}

func (a *admin) listGroups(driver.Named) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, _ sarama.Client) (any, error) {
		found, err := cluster.ListConsumerGroups()
		if err != nil {
			return nil, err
		}
		names := []string{}
		for name := range found {
			names = append(names, name)
		}
		// Sarama lists names and protocol types, not states.
		listed := []map[string]string{}
		for start := 0; start < len(names); start += 50 {
			described, err := cluster.DescribeConsumerGroups(names[start:min(start+50, len(names))])
			if err != nil {
				return nil, err
			}
			for _, each := range described {
				listed = append(listed, map[string]string{"group": each.GroupId, "state": driver.StateName(each.State)})
			}
		}
		return listed, nil
	})
}

func (a *admin) describeGroup(args driver.Named) (any, error) {
	return with(a, func(cluster sarama.ClusterAdmin, _ sarama.Client) (any, error) {
		described, err := cluster.DescribeConsumerGroups([]string{args.Group})
		if err != nil {
			return nil, err
		}
		found := described[0]
		if found.Err != sarama.ErrNoError {
			return nil, found.Err
		}
		members := []map[string]any{}
		for _, each := range found.Members {
			partitions := [][2]any{}
			assignment, err := each.GetMemberAssignment()
			if err != nil {
				return nil, err
			}
			if assignment != nil {
				for topic, numbers := range assignment.Topics {
					for _, number := range numbers {
						partitions = append(partitions, [2]any{topic, number})
					}
				}
			}
			driver.SortPairs(partitions)
			members = append(members, map[string]any{
				"client_id": each.ClientId, "instance_id": each.GroupInstanceId, "partitions": partitions,
			})
		}
		return map[string]any{
			"state": driver.StateName(found.State), "assignor": found.Protocol, "members": members,
		}, nil
	})
}

func hostAndPort(address string) (string, int64, error) {
	colon := strings.LastIndexByte(address, ':')
	port, err := driver.Number(address[colon+1:])
	return address[:colon], port, err
}
