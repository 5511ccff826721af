package main

import (
	"context"
	"errors"

	"ottla/compat/drivers/driver"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumer polls all the time.
type consumer struct {
	client *kgo.Client
	group  string
	kept   *driver.Kept
	stop   context.CancelFunc
	ended  chan struct{}
}

func openConsumer(bootstrap string, args driver.Open) (driver.Consumer, error) {
	options, err := consumerOptions(args.Config)
	if err != nil {
		return nil, err
	}
	if _, given := args.Config["auto.offset.reset"]; !given {
		options = append(options, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	}
	kept := driver.NewKept()
	opened := &consumer{kept: kept, ended: make(chan struct{})}
	if args.Group != nil {
		opened.group = *args.Group
		options = append(options,
			kgo.ConsumerGroup(*args.Group),
			kgo.ConsumeTopics(args.Topics...),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, came map[string][]int32) {
				kept.Assigned(points(came))
			}),
			kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, went map[string][]int32) {
				if args.Config["enable.auto.commit"] == "true" {
					if err := client.CommitUncommittedOffsets(ctx); err != nil {
						kept.Fail(errorName(err))
					}
				}
				kept.Revoked("revoked", points(went))
			}),
			kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, went map[string][]int32) {
				kept.Revoked("lost", points(went))
			}))
		if args.Config["enable.auto.commit"] != "true" {
			options = append(options, kgo.DisableAutoCommit())
		}
	} else {
		starts := map[string]map[int32]kgo.Offset{}
		for _, each := range args.Starts() {
			start := kgo.NewOffset().At(each.Offset)
			switch each.Offset {
			case -1:
				start = kgo.NewOffset().AtEnd()
			case -2:
				start = kgo.NewOffset().AtStart()
			}
			if starts[each.Topic] == nil {
				starts[each.Topic] = map[int32]kgo.Offset{}
			}
			starts[each.Topic][each.Partition] = start
		}
		options = append(options, kgo.ConsumePartitions(starts))
	}
	opened.client, err = kgo.NewClient(append(common(bootstrap), options...)...)
	if err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, opened.stop = context.WithCancel(context.Background())
	go opened.run(ctx)
	return opened, nil
}

func points(listed map[string][]int32) []driver.Point {
	var flat []driver.Point
	for topic, partitions := range listed {
		for _, partition := range partitions {
			flat = append(flat, driver.Point{Topic: topic, Partition: partition})
		}
	}
	return flat
}

func (c *consumer) run(ctx context.Context) {
	defer close(c.ended)
	for ctx.Err() == nil {
		fetches := c.client.PollFetches(ctx)
		for _, failed := range fetches.Errors() {
			if !errors.Is(failed.Err, context.Canceled) {
				c.kept.Fail(errorName(failed.Err))
			}
		}
		fetches.EachRecord(func(record *kgo.Record) { c.kept.Add(received(record)) })
	}
}

func (c *consumer) Kept() *driver.Kept { return c.kept }

func (c *consumer) Close() error {
	c.stop()
	<-c.ended
	// As the Java client does: what was polled is committed on leaving, which the callback of the revocation sees to.
	c.client.Close()
	return nil
}

func (c *consumer) Do(action driver.Action) (any, error) {
	ctx, cancel := timeout()
	defer cancel()
	switch action.Action {
	case "commit":
		return nil, c.commit(ctx, action)
	case "committed":
		found, err := kadm.NewClient(c.client).FetchOffsets(ctx, c.group)
		if err != nil {
			return nil, err
		}
		listed := [][3]any{}
		for _, each := range driver.Points(action.Partitions) {
			offset := int64(-1)
			if committed, known := found.Lookup(each.Topic, each.Partition); known {
				offset = committed.At
			}
			listed = append(listed, [3]any{each.Topic, each.Partition, offset})
		}
		return listed, nil
	case "seek":
		c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{
			action.Topic: {action.Partition: {Epoch: -1, Offset: action.Offset}},
		})
		return nil, nil
	}
	return nil, driver.Errorf("NO_SUCH_ACTION", "%s", action.Action)
}

func (c *consumer) commit(ctx context.Context, action driver.Action) error {
	if action.Offsets == nil {
		return c.client.CommitUncommittedOffsets(ctx)
	}
	chosen := map[string]map[int32]kgo.EpochOffset{}
	for _, each := range driver.Points(action.Offsets) {
		if chosen[each.Topic] == nil {
			chosen[each.Topic] = map[int32]kgo.EpochOffset{}
		}
		chosen[each.Topic][each.Partition] = kgo.EpochOffset{Epoch: -1, Offset: each.Offset}
	}
	var failed error
	c.client.CommitOffsetsSync(ctx, chosen, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err != nil {
			return
		}
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				if partition.ErrorCode != 0 {
					failed = kerr.ErrorForCode(partition.ErrorCode)
				}
			}
		}
	})
	return failed
}
