package main

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"ottla/compat/drivers/driver"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type alterTopic = func(context.Context, []kadm.AlterConfig, ...string) (kadm.AlterConfigsResponses, error)

type alterBroker = func(context.Context, []kadm.AlterConfig, ...int32) (kadm.AlterConfigsResponses, error)

type admin struct {
	client  *kadm.Client
	raw     *kgo.Client
	records *records
}

func adminOperations(bootstrap string, records *records) map[string]driver.Operation {
	raw, err := kgo.NewClient(common(bootstrap)...)
	if err != nil {
		panic(err)
	}
	a := &admin{kadm.NewClient(raw), raw, records}
	return map[string]driver.Operation{
		"create_topic":              driver.Op(a.createTopic),
		"delete_topic":              driver.Op(a.deleteTopic),
		"metadata":                  driver.Op(a.metadata),
		"topic_id":                  driver.Op(a.topicID),
		"describe_cluster":          driver.Op(a.describeCluster),
		"describe_configs":          driver.Op(a.describeConfigs),
		"list_groups":               driver.Op(a.listGroups),
		"describe_group":            driver.Op(a.describeGroup),
		"create_partitions":         driver.Op(a.createPartitions),
		"delete_records":            driver.Op(a.deleteRecords),
		"config_entries":            driver.Op(a.configEntries),
		"alter_configs":             driver.Op(a.alterConfigs),
		"incremental_alter_configs": driver.Op(a.incrementalAlterConfigs),
		"describe_log_dirs":         driver.Op(a.describeLogDirs),
		"delete_group":              driver.Op(a.deleteGroup),
		"delete_offsets":            driver.Op(a.deleteOffsets),
		"list_offsets":              driver.Op(a.listOffsets),
		"group_offsets":             driver.Op(a.groupOffsets),
		"describe_producers":        driver.Op(a.describeProducers),
		"list_config_resources":     driver.Op(a.listConfigResources),
	}
}

func (a *admin) createTopic(args driver.CreateTopic) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	configs := map[string]*string{}
	for key, value := range args.Configs {
		configs[key] = &value
	}
	_, err := a.client.CreateTopic(ctx, args.Partitions, args.Replicas(), configs, args.Name)
	return nil, err
}

func (a *admin) deleteTopic(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	a.records.forget(args.Name)
	_, err := a.client.DeleteTopic(ctx, args.Name)
	return nil, err
}

func (a *admin) metadata(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	var names []string
	if args.Topic != nil {
		names = append(names, *args.Topic)
	}
	found, err := a.client.Metadata(ctx, names...)
	if err != nil {
		return nil, err
	}
	brokers := []map[string]any{}
	for _, each := range found.Brokers {
		brokers = append(brokers, map[string]any{"id": each.NodeID, "host": each.Host, "port": each.Port})
	}
	topics := map[string]any{}
	for _, topic := range found.Topics {
		if topic.Err != nil {
			if args.Topic != nil {
				return nil, topic.Err
			}
			continue
		}
		partitions := []map[string]any{}
		for _, each := range topic.Partitions.Sorted() {
			partitions = append(partitions, map[string]any{
				"partition": each.Partition, "leader": each.Leader, "replicas": each.Replicas,
			})
		}
		topics[topic.Topic] = partitions
	}
	return map[string]any{"brokers": brokers, "topics": topics}, nil
}

func (a *admin) topicID(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	found, err := a.client.ListTopics(ctx, args.Name)
	if err != nil {
		return nil, err
	}
	topic := found[args.Name]
	return base64.RawURLEncoding.EncodeToString(topic.ID[:]), topic.Err
}

func (a *admin) describeCluster(driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	found, err := a.client.BrokerMetadata(ctx)
	return map[string]any{"cluster_id": found.Cluster, "nodes": found.Brokers.NodeIDs()}, err
}

// resource asks about one resource of any kind, in the newest version of the protocol.
func (a *admin) resource(kind, name string) (*kmsg.DescribeConfigsResponseResource, error) {
	ctx, cancel := timeout()
	defer cancel()
	kinds, err := kmsg.ParseConfigResourceType(kind)
	if err != nil {
		return nil, err
	}
	asked := kmsg.NewDescribeConfigsRequestResource()
	asked.ResourceType, asked.ResourceName = kinds, name
	request := kmsg.NewPtrDescribeConfigsRequest()
	request.IncludeSynonyms = true
	request.Resources = append(request.Resources, asked)
	answer, err := request.RequestWith(ctx, a.raw)
	if err != nil {
		return nil, err
	}
	found := answer.Resources[0]
	return &found, kerr.ErrorForCode(found.ErrorCode)
}

func (a *admin) describeConfigs(args driver.Named) (any, error) {
	found, err := a.resource(args.Kind, args.Name)
	if err != nil {
		return nil, err
	}
	entries := map[string]*string{}
	for _, each := range found.Configs {
		entries[each.Name] = each.Value
	}
	return entries, nil
}

func (a *admin) configEntries(args driver.Named) (any, error) {
	found, err := a.resource(args.Kind, args.Name)
	if err != nil {
		return nil, err
	}
	entries := map[string]any{}
	for _, each := range found.Configs {
		synonyms := [][3]any{}
		for _, synonym := range each.ConfigSynonyms {
			synonyms = append(synonyms, [3]any{synonym.Name, synonym.Value, synonym.Source.String()})
		}
		entries[each.Name] = map[string]any{
			"value": each.Value, "source": each.Source.String(), "type": each.ConfigType.String(),
			"read_only": each.ReadOnly, "sensitive": each.IsSensitive, "synonyms": synonyms,
		}
	}
	return entries, nil
}

func (a *admin) alterConfigs(args driver.AlterConfigs) (any, error) {
	var changes []kadm.AlterConfig
	for key, value := range args.Set {
		changes = append(changes, kadm.AlterConfig{Name: key, Value: &value})
	}
	return a.alter(args, changes, a.client.AlterTopicConfigsState, a.client.ValidateAlterTopicConfigsState,
		a.client.AlterBrokerConfigsState, a.client.ValidateAlterBrokerConfigsState)
}

func (a *admin) incrementalAlterConfigs(args driver.AlterConfigs) (any, error) {
	operations := map[string]kadm.IncrementalOp{
		"set": kadm.SetConfig, "delete": kadm.DeleteConfig, "append": kadm.AppendConfig, "subtract": kadm.SubtractConfig,
	}
	var changes []kadm.AlterConfig
	for _, each := range args.Ops {
		changes = append(changes, kadm.AlterConfig{Op: operations[*each[0]], Name: *each[1], Value: each[2]})
	}
	return a.alter(args, changes, a.client.AlterTopicConfigs, a.client.ValidateAlterTopicConfigs,
		a.client.AlterBrokerConfigs, a.client.ValidateAlterBrokerConfigs)
}

func (a *admin) deleteGroup(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	_, err := a.client.DeleteGroup(ctx, args.Group)
	return nil, err
}

func setOf(p driver.OnPartition) kadm.TopicsSet {
	var set kadm.TopicsSet
	set.Add(p.Topic, p.Partition)
	return set
}

func (a *admin) createPartitions(args driver.OnPartition) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answers, err := a.client.UpdatePartitions(ctx, int(args.Total), args.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answers[args.Topic].Err
}

func (a *admin) deleteRecords(args driver.OnPartition) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	var offsets kadm.Offsets
	offsets.AddOffset(args.Topic, args.Partition, args.Offset, -1)
	answers, err := a.client.DeleteRecords(ctx, offsets)
	if err != nil {
		return nil, err
	}
	found, _ := answers.Lookup(args.Topic, args.Partition)
	return found.LowWatermark, found.Err
}

func (a *admin) deleteOffsets(args driver.OnPartition) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	answers, err := a.client.DeleteOffsets(ctx, args.Group, setOf(args))
	if err != nil {
		return nil, err
	}
	failed, _ := answers.Lookup(args.Topic, args.Partition)
	return nil, failed
}

func (a *admin) listOffsets(args driver.OnPartition) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	var listed kadm.ListedOffsets
	var err error
	switch args.At {
	case "earliest":
		listed, err = a.client.ListStartOffsets(ctx, args.Topic)
	case "latest":
		listed, err = a.client.ListEndOffsets(ctx, args.Topic)
	case "max-timestamp":
		listed, err = a.client.ListMaxTimestampOffsets(ctx, args.Topic)
	case "earliest-local":
		listed, err = a.client.ListLocalLogStartOffsets(ctx, args.Topic)
	default:
		listed, err = a.client.ListOffsetsAfterMilli(ctx, args.Timestamp, args.Topic)
	}
	if err != nil {
		return nil, err
	}
	found, known := listed.Lookup(args.Topic, args.Partition)
	if !known {
		return nil, driver.Errorf("NOT_LISTED", "%s-%d", args.Topic, args.Partition)
	}
	return map[string]any{"offset": found.Offset, "timestamp": found.Timestamp, "leader_epoch": found.LeaderEpoch}, found.Err
}

func (a *admin) groupOffsets(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	found, err := a.client.FetchOffsets(ctx, args.Group)
	if err != nil {
		return nil, err
	}
	listed := [][3]any{}
	for _, each := range found.Sorted() {
		listed = append(listed, [3]any{each.Topic, each.Partition, each.At})
	}
	return listed, nil
}

func (a *admin) describeProducers(args driver.OnPartition) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	found, err := a.client.DescribeProducers(ctx, setOf(args))
	if err != nil {
		return nil, err
	}
	partition := found[args.Topic].Partitions[args.Partition]
	producers := []map[string]any{}
	for _, each := range partition.ActiveProducers {
		producers = append(producers, map[string]any{
			"epoch": each.ProducerEpoch, "last_sequence": each.LastSequence,
			"coordinator_epoch": each.CoordinatorEpoch, "txn_start_offset": each.CurrentTxnStartOffset,
		})
	}
	return producers, partition.Err
}

func (a *admin) describeLogDirs(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	// A set that names a topic without partitions asks for none of them: all are asked for, and looked through.
	found, err := a.client.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return nil, err
	}
	directories := []any{}
	found.Each(func(directory kadm.DescribedLogDir) {
		partitions := [][]any{}
		for _, each := range directory.Topics.Sorted() {
			if each.Topic == *args.Topic {
				partitions = append(partitions, []any{each.Topic, each.Partition, each.Size, each.OffsetLag, each.IsFuture})
			}
		}
		failed := ""
		if directory.Err != nil {
			failed = errorName(directory.Err)
		}
		directories = append(directories, map[string]any{
			"error": failed, "partitions": partitions,
			"volume_known": directory.TotalBytes > 0 && directory.UsableBytes > 0,
		})
	})
	return directories, nil
}

func (a *admin) listConfigResources(args struct {
	Kinds []string `json:"kinds"`
}) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	var kinds []kmsg.ConfigResourceType
	for _, each := range args.Kinds {
		kind, err := kmsg.ParseConfigResourceType(each)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	found, err := a.client.ListConfigResources(ctx, kinds...)
	if err != nil {
		return nil, err
	}
	listed := [][2]string{}
	for _, each := range found.Sorted() {
		listed = append(listed, [2]string{each.Type.String(), each.Name})
	}
	slices.SortFunc(listed, func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) })
	return listed, found.Err
}

func (a *admin) listGroups(args struct {
	States []string `json:"states"`
}) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	found, err := a.client.ListGroups(ctx, args.States...)
	if err != nil {
		return nil, err
	}
	listed := []map[string]string{}
	for _, each := range found.Sorted() {
		listed = append(listed, map[string]string{"group": each.Group, "state": driver.StateName(each.State)})
	}
	return listed, nil
}

func (a *admin) describeGroup(args driver.Named) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	groups, err := a.client.DescribeGroups(ctx, args.Group)
	if err != nil {
		return nil, err
	}
	found := groups[args.Group]
	if found.Err != nil {
		return nil, found.Err
	}
	members := []map[string]any{}
	for _, each := range found.Members {
		partitions := [][2]any{}
		if assigned, is := each.Assigned.AsConsumer(); is {
			for _, topic := range assigned.Topics {
				for _, partition := range topic.Partitions {
					partitions = append(partitions, [2]any{topic.Topic, partition})
				}
			}
		}
		driver.SortPairs(partitions)
		members = append(members, map[string]any{
			"client_id": each.ClientID, "instance_id": each.InstanceID, "partitions": partitions,
		})
	}
	return map[string]any{"state": driver.StateName(found.State), "assignor": found.Protocol, "members": members}, nil
}

func (a *admin) alter(args driver.AlterConfigs, changes []kadm.AlterConfig, topic, validTopic alterTopic,
	broker, validBroker alterBroker) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	if args.ValidateOnly {
		topic, broker = validTopic, validBroker
	}
	var answers kadm.AlterConfigsResponses
	var err error
	if args.Kind == "topic" {
		answers, err = topic(ctx, changes, args.Name)
	} else if args.Name == "" {
		answers, err = broker(ctx, changes)
	} else {
		id, failed := strconv.Atoi(args.Name)
		if failed != nil {
			return nil, failed
		}
		answers, err = broker(ctx, changes, int32(id))
	}
	if err != nil {
		return nil, err
	}
	return nil, errors.Join(answers[0].Err)
}
