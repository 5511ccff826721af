package main

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"ottla/compat/drivers/driver"

	"github.com/segmentio/kafka-go"
)

type records struct {
	bootstrap string
	client    *kafka.Client
	mutex     sync.Mutex
	writers   map[string]*kafka.Writer
}

// told is what a message carries to its writer: where it goes, and who waits for its outcome.
type told struct {
	partition int
	done      func(message kafka.Message, err error)
}

func newWriter(bootstrap string) *kafka.Writer {
	return &kafka.Writer{
		Addr:                   kafka.TCP(bootstrap),
		Balancer:               kafka.BalancerFunc(func(message kafka.Message, _ ...int) int { return message.WriterData.(told).partition }),
		BatchTimeout:           5 * time.Millisecond,
		RequiredAcks:           kafka.RequireAll,
		Async:                  true,
		AllowAutoTopicCreation: true,
		WriteBackoffMin:        50 * time.Millisecond,
		WriteBackoffMax:        200 * time.Millisecond,
		Completion: func(messages []kafka.Message, err error) {
			for _, each := range messages {
				each.WriterData.(told).done(each, err)
			}
		},
	}
}

func configureWriter(writer *kafka.Writer, settings map[string]string) error {
	codecs := map[string]kafka.Compression{
		"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
	}
	acks := map[string]kafka.RequiredAcks{"0": kafka.RequireNone, "1": kafka.RequireOne, "all": kafka.RequireAll}
	for key, value := range settings {
		switch key {
		case "compression.type":
			writer.Compression = codecs[value]
		case "acks":
			writer.RequiredAcks = acks[value]
		case "linger.ms":
			linger, err := driver.Milliseconds(value)
			if err != nil {
				return err
			}
			writer.BatchTimeout = max(linger, time.Millisecond)
		case "max.request.size":
			size, err := driver.Number(value)
			if err != nil {
				return err
			}
			writer.BatchBytes = size
		case "batch.size":
			// kafka-go counts messages in its batches, and refuses what is larger than BatchBytes.
			writer.BatchSize = 1
		case "enable.idempotence":
			if value == "true" {
				return driver.UnknownSetting(key, value)
			}
		case "max.block.ms":
		default:
			return driver.UnknownSetting(key, value)
		}
	}
	return nil
}

func (r *records) writer(settings map[string]string) (*kafka.Writer, error) {
	key, _ := json.Marshal(settings)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if known, found := r.writers[string(key)]; found {
		return known, nil
	}
	made := newWriter(r.bootstrap)
	if err := configureWriter(made, settings); err != nil {
		return nil, err
	}
	r.writers[string(key)] = made
	return made, nil
}

func (r *records) produce(args driver.Produce) (any, error) {
	writer, err := r.writer(args.Config)
	if err != nil {
		return nil, err
	}
	if err := r.choosePartitions(args); err != nil {
		name := errorName(err)
		return driver.Produced{Results: []driver.Result{{Error: name, Message: err.Error()}}}, nil
	}
	results := make([]driver.Result, len(args.Records))
	var waiting sync.WaitGroup
	sent := driver.Now()
	messages := make([]kafka.Message, 0, len(args.Records))
	for index, each := range args.Records {
		message := kafka.Message{
			Topic: args.Topic, Key: driver.Bytes(each.Key), Value: driver.Bytes(each.Value),
			WriterData: told{int(each.Partition), func(message kafka.Message, err error) {
				defer waiting.Done()
				results[index] = driver.Result{Partition: int32(message.Partition), Offset: &message.Offset}
				if err != nil {
					results[index] = driver.Result{Error: errorName(err), Message: err.Error()}
				}
			}},
		}
		if each.Timestamp != nil {
			message.Time = time.UnixMilli(*each.Timestamp)
		}
		for _, pair := range each.Headers {
			name, value, err := driver.HeaderOf(pair)
			if err != nil {
				return nil, err
			}
			message.Headers = append(message.Headers, kafka.Header{Key: name, Value: value})
		}
		messages = append(messages, message)
	}
	waiting.Add(len(messages))
	ctx, cancel := timeout()
	defer cancel()
	if err := writer.WriteMessages(ctx, messages...); err != nil {
		// Refused before any was sent.
		for index := range results {
			results[index] = driver.Result{Error: errorName(err), Message: err.Error()}
		}
		return driver.Produced{Results: results, SentNs: sent, AckedNs: driver.Now()}, nil
	}
	waiting.Wait()
	return driver.Produced{Results: results, SentNs: sent, AckedNs: driver.Now()}, nil
}

// choosePartitions refuses partitions the topic does not have: kafka-go would wait for them for ever.
func (r *records) choosePartitions(args driver.Produce) error {
	highest := int32(0)
	for _, each := range args.Records {
		highest = max(highest, each.Partition)
	}
	if highest == 0 {
		return nil
	}
	found, err := again(func(ctx context.Context) (*kafka.MetadataResponse, error) {
		found, err := r.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{args.Topic}})
		if err == nil {
			err = found.Topics[0].Error
		}
		return found, err
	})
	if err != nil {
		return err
	}
	if int(highest) >= len(found.Topics[0].Partitions) {
		return kafka.UnknownTopicOrPartition
	}
	return nil
}

func readerConfig(bootstrap string, settings map[string]string) (kafka.ReaderConfig, error) {
	config := kafka.ReaderConfig{
		Brokers: []string{bootstrap}, MinBytes: 1, MaxBytes: 50 << 20, MaxWait: 500 * time.Millisecond,
		ReadBackoffMin: 50 * time.Millisecond, ReadBackoffMax: 200 * time.Millisecond, OffsetOutOfRangeError: true,
		// The library's own errors are expected here: brokers come and go.
	}
	for key, value := range settings {
		switch key {
		case "fetch.max.wait.ms":
			wait, err := driver.Milliseconds(value)
			if err != nil {
				return config, err
			}
			config.MaxWait = wait
		case "fetch.min.bytes", "max.partition.fetch.bytes":
			number, err := driver.Number(value)
			if err != nil {
				return config, err
			}
			if key == "fetch.min.bytes" {
				config.MinBytes = int(number)
			} else {
				config.MaxBytes = int(number)
			}
		case "isolation.level":
			if value == "read_committed" {
				config.IsolationLevel = kafka.ReadCommitted
			}
		case "auto.offset.reset", "check.crcs", "allow.auto.create.topics":
		default:
			return config, driver.UnknownSetting(key, value)
		}
	}
	return config, nil
}

func (r *records) listed(topic string, partition int32, time int64) (int64, error) {
	found, err := again(func(ctx context.Context) (kafka.PartitionOffsets, error) {
		answer, err := r.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
			Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: int(partition), Timestamp: time}}},
		})
		if err != nil {
			return kafka.PartitionOffsets{}, err
		}
		return answer.Topics[topic][0], answer.Topics[topic][0].Error
	})
	if err != nil {
		return 0, err
	}
	switch time {
	case kafka.FirstOffset:
		return found.FirstOffset, nil
	case kafka.LastOffset:
		return found.LastOffset, nil
	}
	for offset := range found.Offsets {
		return offset, nil
	}
	return -1, nil
}

func (r *records) startOf(topic string, partition int32, start driver.Start) (int64, error) {
	switch start.At {
	case "beginning":
		return r.listed(topic, partition, kafka.FirstOffset)
	case "end":
		return r.listed(topic, partition, kafka.LastOffset)
	case "timestamp":
		return r.listed(topic, partition, start.Value)
	}
	return start.Value, nil
}

func (r *records) offsets(args driver.Offsets) (any, error) {
	return r.startOf(args.Topic, args.Partition, driver.Start{At: args.At, Value: args.Timestamp})
}

func (r *records) read(args driver.Read) (any, error) {
	config, err := readerConfig(r.bootstrap, args.Config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(context.Background(), driver.Deadline(args.TimeoutS))
	defer cancel()
	answer := driver.ReadAnswer{Records: []driver.Received{}, Ended: []int32{}}
	for _, partition := range args.Partitions {
		start, err := r.startOf(args.Topic, partition, args.Start)
		if err != nil {
			return nil, err
		}
		end := int64(-1)
		if args.Count == nil {
			if end, err = r.listed(args.Topic, partition, kafka.LastOffset); err != nil {
				return nil, err
			}
			answer.Ended = append(answer.Ended, partition)
			if start >= end {
				continue
			}
		}
		config.Topic, config.Partition = args.Topic, int(partition)
		if err := read(ctx, config, start, end, args.Count, &answer); err != nil {
			return nil, err
		}
	}
	slices.Sort(answer.Ended)
	return answer, nil
}

func read(ctx context.Context, config kafka.ReaderConfig, start, end int64, count *int, answer *driver.ReadAnswer) error {
	reader := kafka.NewReader(config)
	defer reader.Close()
	if err := reader.SetOffset(start); err != nil {
		return err
	}
	for count == nil || len(answer.Records) < *count {
		message, err := reader.ReadMessage(ctx)
		if ctx.Err() != nil {
			return driver.Errorf("READ_TIMEOUT", "%d records", len(answer.Records))
		}
		if err != nil {
			return err
		}
		answer.Records = append(answer.Records, received(message))
		if count == nil && message.Offset+1 >= end {
			return nil
		}
	}
	return nil
}

func received(message kafka.Message) driver.Received {
	return driver.Received{
		Topic: message.Topic, Partition: int32(message.Partition), Offset: message.Offset,
		Timestamp: message.Time.UnixMilli(), Key: driver.Nullable(message.Key), Value: driver.Nullable(message.Value),
		Headers: driver.HeaderPairs(message.Headers, func(header kafka.Header) (string, []byte) {
			return header.Key, header.Value
		}),
		ArrivedNs: driver.Now(),
	}
}

// load is a load's producer. Its writer is not idempotent: what is sent again may be there twice.
type load struct {
	writer *kafka.Writer
	topic  string
}

func openLoad(bootstrap string, args driver.LoadStart) (driver.Producer, error) {
	writer := newWriter(bootstrap)
	writer.MaxAttempts = 10000
	return &load{writer, args.Topic}, nil
}

func (l *load) Send(partition int32, value []byte, done func(int64, error)) {
	message := kafka.Message{
		Topic: l.topic, Value: value,
		WriterData: told{int(partition), func(sent kafka.Message, err error) { done(sent.Offset, err) }},
	}
	for {
		// An error here comes from metadata, before anything was sent.
		if l.writer.WriteMessages(context.Background(), message) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *load) Close() error { return l.writer.Close() }
