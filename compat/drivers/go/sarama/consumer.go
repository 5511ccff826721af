package main

import (
	"context"
	"errors"
	"sync"

	"ottla/compat/drivers/driver"

	"github.com/IBM/sarama"
)

// member is a consumer of a group.
type member struct {
	group      string
	client     sarama.Client
	consumer   sarama.ConsumerGroup
	kept       *driver.Kept
	autoCommit bool
	stop       context.CancelFunc
	ended      sync.WaitGroup
	mutex      sync.Mutex
	session    sarama.ConsumerGroupSession
	position   map[driver.Point]int64
}

func openConsumer(bootstrap string, args driver.Open) (driver.Consumer, error) {
	config, err := consumerConfig(args.Config)
	if err != nil {
		return nil, err
	}
	client, err := sarama.NewClient([]string{bootstrap}, config)
	if err != nil {
		return nil, err
	}
	if args.Group == nil {
		return openAssigned(client, args)
	}
	group, err := sarama.NewConsumerGroupFromClient(*args.Group, client)
	if err != nil {
		return nil, err
	}
	opened := &member{
		group: *args.Group, client: client, consumer: group, kept: driver.NewKept(),
		autoCommit: config.Consumer.Offsets.AutoCommit.Enable, position: map[driver.Point]int64{},
	}
	ctx, stop := context.WithCancel(context.Background())
	opened.stop = stop
	opened.ended.Add(2)
	go func() {
		defer opened.ended.Done()
		for err := range group.Errors() {
			opened.kept.Fail(errorName(err))
		}
	}()
	go func() {
		defer opened.ended.Done()
		for ctx.Err() == nil {
			// Returns at each rebalance.
			if err := group.Consume(ctx, args.Topics, opened); err != nil && !errors.Is(err, context.Canceled) {
				opened.kept.Fail(errorName(err))
			}
		}
	}()
	return opened, nil
}

func claims(session sarama.ConsumerGroupSession) []driver.Point {
	var points []driver.Point
	for topic, partitions := range session.Claims() {
		for _, partition := range partitions {
			points = append(points, driver.Point{Topic: topic, Partition: partition})
		}
	}
	return points
}

// Setup is Sarama's word for an assignment that came.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	m.session = session
	clear(m.position)
	m.mutex.Unlock()
	m.kept.Assigned(claims(session))
	return nil
}

// Cleanup is Sarama's word for an assignment that went.
func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	m.kept.Revoked("revoked", claims(session))
	return nil
}

// ConsumeClaim runs for each partition of the assignment.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.kept.Add(received(message))
		m.mutex.Lock()
		m.position[driver.Point{Topic: message.Topic, Partition: message.Partition}] = message.Offset + 1
		m.mutex.Unlock()
		if m.autoCommit {
			session.MarkMessage(message, "")
		}
	}
	return nil
}

func (m *member) Kept() *driver.Kept { return m.kept }

func (m *member) Close() error {
	m.stop()
	err := m.consumer.Close()
	m.ended.Wait()
	return errors.Join(err, m.client.Close())
}

func (m *member) Do(action driver.Action) (any, error) {
	switch action.Action {
	case "commit":
		m.mutex.Lock()
		defer m.mutex.Unlock()
		if m.session == nil {
			return nil, driver.Errorf("NOT_A_MEMBER", "%s", m.group)
		}
		if action.Offsets == nil {
			for point, offset := range m.position {
				m.session.MarkOffset(point.Topic, point.Partition, offset, "")
			}
		}
		for _, each := range driver.Points(action.Offsets) {
			m.session.MarkOffset(each.Topic, each.Partition, each.Offset, "")
		}
		m.session.Commit()
		return nil, nil
	case "committed":
		return committed(m.client, m.group, driver.Points(action.Partitions))
	}
	return nil, driver.Errorf("NO_SUCH_ACTION", "%s", action.Action)
}

func committed(client sarama.Client, group string, points []driver.Point) (any, error) {
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, err
	}
	asked := map[string][]int32{}
	for _, each := range points {
		asked[each.Topic] = append(asked[each.Topic], each.Partition)
	}
	found, err := admin.ListConsumerGroupOffsets(group, asked)
	if err != nil {
		return nil, err
	}
	listed := [][3]any{}
	for _, each := range points {
		offset := int64(-1)
		if block := found.GetBlock(each.Topic, each.Partition); block != nil {
			offset = block.Offset
		}
		listed = append(listed, [3]any{each.Topic, each.Partition, offset})
	}
	return listed, nil
}

// assigned reads partitions without a group.
type assigned struct {
	client   sarama.Client
	consumer sarama.Consumer
	kept     *driver.Kept
	done     chan struct{}
}

func openAssigned(client sarama.Client, args driver.Open) (driver.Consumer, error) {
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return nil, err
	}
	opened := &assigned{client, consumer, driver.NewKept(), make(chan struct{})}
	messages, failures := make(chan *sarama.ConsumerMessage), make(chan error)
	for _, each := range args.Starts() {
		// -1 and -2 mean to Sarama what they mean to the runner.
		stream, err := consumer.ConsumePartition(each.Topic, each.Partition, each.Offset)
		if err != nil {
			return nil, err
		}
		go forward(stream, messages, failures, opened.done)
	}
	go func() {
		for {
			select {
			case message := <-messages:
				opened.kept.Add(received(message))
			case err := <-failures:
				opened.kept.Fail(errorName(err))
			case <-opened.done:
				return
			}
		}
	}()
	return opened, nil
}

func (a *assigned) Kept() *driver.Kept { return a.kept }

func (a *assigned) Do(action driver.Action) (any, error) {
	return nil, driver.Errorf("NO_SUCH_ACTION", "%s", action.Action)
}

func (a *assigned) Close() error {
	close(a.done)
	return a.client.Close()
}
