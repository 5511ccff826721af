package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"ottla/compat/drivers/driver"

	"github.com/segmentio/kafka-go"
)

// consumer is a member of a group, by kafka-go's ConsumerGroup, or a reader of assigned partitions.
type consumer struct {
	records    *records
	config     kafka.ReaderConfig
	group      *kafka.ConsumerGroup
	groupID    string
	topics     []string
	kept       *driver.Kept
	autoCommit bool
	stop       context.CancelFunc
	ended      sync.WaitGroup
	mutex      sync.Mutex
	generation *kafka.Generation
	position   map[string]map[int]int64
}

func openConsumer(records *records, args driver.Open) (driver.Consumer, error) {
	settings := map[string]string{}
	config := kafka.ConsumerGroupConfig{
		Brokers: []string{records.bootstrap}, Topics: args.Topics, StartOffset: kafka.FirstOffset,
		JoinGroupBackoff: 100 * time.Millisecond, GroupBalancers: []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
	}
	opened := &consumer{records: records, kept: driver.NewKept(), topics: args.Topics}
	for key, value := range args.Config {
		switch key {
		case "heartbeat.interval.ms", "session.timeout.ms":
			duration, err := driver.Milliseconds(value)
			if err != nil {
				return nil, err
			}
			*map[string]*time.Duration{
				"heartbeat.interval.ms": &config.HeartbeatInterval, "session.timeout.ms": &config.SessionTimeout,
			}[key] = duration
		case "partition.assignment.strategy":
			balancers := map[string]kafka.GroupBalancer{
				"range": kafka.RangeGroupBalancer{}, "roundrobin": kafka.RoundRobinGroupBalancer{},
			}
			config.GroupBalancers = []kafka.GroupBalancer{balancers[value]}
		case "enable.auto.commit":
			opened.autoCommit = value == "true"
		default:
			settings[key] = value
		}
	}
	if args.Config["auto.offset.reset"] == "latest" {
		config.StartOffset = kafka.LastOffset
	}
	var err error
	if opened.config, err = readerConfig(records.bootstrap, settings); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	opened.stop = stop
	if args.Group == nil {
		for _, each := range args.Starts() {
			opened.ended.Add(1)
			go func() {
				defer opened.ended.Done()
				opened.read(ctx, each, nil)
			}()
		}
		return opened, nil
	}
	config.ID, opened.groupID = *args.Group, *args.Group
	if opened.group, err = kafka.NewConsumerGroup(config); err != nil {
		stop()
		return nil, err
	}
	opened.ended.Add(1)
	go opened.generations(ctx)
	return opened, nil
}

func (c *consumer) generations(ctx context.Context) {
	defer c.ended.Done()
	for {
		generation, err := c.group.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed) {
			return
		}
		if errors.Is(err, kafka.RebalanceInProgress) {
			continue // how kafka-go says that the group has changed
		}
		if err != nil {
			c.kept.Fail(errorName(err))
			continue
		}
		var points []driver.Point
		for topic, partitions := range generation.Assignments {
			for _, each := range partitions {
				points = append(points, driver.Point{Topic: topic, Partition: int32(each.ID), Offset: each.Offset})
			}
		}
		c.mutex.Lock()
		c.generation, c.position = generation, map[string]map[int]int64{}
		c.mutex.Unlock()
		c.kept.Assigned(points)
		var reading sync.WaitGroup
		for _, each := range points {
			reading.Add(1)
			generation.Start(func(ctx context.Context) {
				defer reading.Done()
				c.read(ctx, each, generation)
			})
		}
		generation.Start(func(ctx context.Context) {
			<-ctx.Done()
			reading.Wait()
			c.kept.Revoked("revoked", points)
		})
	}
}

// read goes on until its generation, or the consumer, ends.
func (c *consumer) read(ctx context.Context, from driver.Point, generation *kafka.Generation) {
	config := c.config
	config.Topic, config.Partition, config.OffsetOutOfRangeError = from.Topic, int(from.Partition), false
	reader := kafka.NewReader(config)
	defer reader.Close()
	offset := from.Offset
	if generation == nil {
		// The runner's -1 and -2 are kafka-go's too.
		offset = map[int64]int64{-1: kafka.LastOffset, -2: kafka.FirstOffset}[offset]
	}
	if err := reader.SetOffset(offset); err != nil {
		c.kept.Fail(errorName(err))
		return
	}
	for {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			c.kept.Fail(errorName(err))
			continue
		}
		c.kept.Add(received(message))
		c.mutex.Lock()
		if generation != nil && c.generation == generation {
			if c.position[message.Topic] == nil {
				c.position[message.Topic] = map[int]int64{}
			}
			c.position[message.Topic][message.Partition] = message.Offset + 1
		}
		c.mutex.Unlock()
		if c.autoCommit && generation != nil {
			at := map[string]map[int]int64{message.Topic: {message.Partition: message.Offset + 1}}
			if err := generation.CommitOffsets(at); err != nil && ctx.Err() == nil {
				c.kept.Fail(errorName(err))
			}
		}
	}
}

func (c *consumer) Kept() *driver.Kept { return c.kept }

func (c *consumer) Close() error {
	c.stop()
	var err error
	if c.group != nil {
		err = c.group.Close()
	}
	c.ended.Wait()
	return err
}

func (c *consumer) Do(action driver.Action) (any, error) {
	switch action.Action {
	case "commit":
		c.mutex.Lock()
		defer c.mutex.Unlock()
		if c.generation == nil {
			return nil, driver.Errorf("NOT_A_MEMBER", "%s", c.groupID)
		}
		offsets := c.position
		if action.Offsets != nil {
			offsets = map[string]map[int]int64{}
			for _, each := range driver.Points(action.Offsets) {
				if offsets[each.Topic] == nil {
					offsets[each.Topic] = map[int]int64{}
				}
				offsets[each.Topic][int(each.Partition)] = each.Offset
			}
		}
		return nil, c.generation.CommitOffsets(offsets)
	case "committed":
		return c.committed(driver.Points(action.Partitions))
	}
	return nil, driver.Errorf("NO_SUCH_ACTION", "%s", action.Action)
}

func (c *consumer) committed(points []driver.Point) (any, error) {
	asked := map[string][]int{}
	for _, each := range points {
		asked[each.Topic] = append(asked[each.Topic], int(each.Partition))
	}
	found, err := again(func(ctx context.Context) (*kafka.OffsetFetchResponse, error) {
		return c.records.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: c.groupID, Topics: asked})
	})
	if err != nil {
		return nil, err
	}
	listed := [][3]any{}
	for _, each := range points {
		offset := int64(-1)
		for _, partition := range found.Topics[each.Topic] {
			if partition.Partition == int(each.Partition) {
				offset = partition.CommittedOffset
			}
		}
		listed = append(listed, [3]any{each.Topic, each.Partition, offset})
	}
	return listed, nil
}
