package main

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"ottla/compat/drivers/driver"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type records struct {
	bootstrap string
	mutex     sync.Mutex
	producers map[string]*kgo.Client
}

func producerOptions(config map[string]string) ([]kgo.Opt, error) {
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(20),
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	for key, value := range config {
		switch key {
		case "compression.type":
			options = append(options, kgo.ProducerBatchCompression(codecs[value]))
		case "acks":
			options = append(options, kgo.RequiredAcks(acks[value]))
		case "enable.idempotence":
			if value == "false" {
				options = append(options, kgo.DisableIdempotentWrite())
			}
		case "linger.ms":
			linger, err := driver.Milliseconds(value)
			if err != nil {
				return nil, err
			}
			options = append(options, kgo.ProducerLinger(linger))
		case "max.request.size":
			size, err := driver.Number(value)
			if err != nil {
				return nil, err
			}
			options = append(options, kgo.ProducerBatchMaxBytes(int32(size)))
		case "batch.size", "max.block.ms":
			// franz-go refuses a record that is larger than its batches may be, so a small batch is not to be asked for.
		default:
			return nil, driver.UnknownSetting(key, value)
		}
	}
	return options, nil
}

func (r *records) producer(config map[string]string) (*kgo.Client, error) {
	key, _ := json.Marshal(config)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if known, found := r.producers[string(key)]; found {
		return known, nil
	}
	options, err := producerOptions(config)
	if err != nil {
		return nil, err
	}
	made, err := kgo.NewClient(append(common(r.bootstrap), options...)...)
	if err == nil {
		r.producers[string(key)] = made
	}
	return made, err
}

// forget is for a topic that is to be deleted: a producer that knows it asks for it again from time to time, and would
// have it created anew.
func (r *records) forget(topic string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, each := range r.producers {
		each.PurgeTopicsFromClient(topic)
	}
}

func (r *records) produce(args driver.Produce) (any, error) {
	client, err := r.producer(args.Config)
	if err != nil {
		return nil, err
	}
	results := make([]driver.Result, len(args.Records))
	var waiting sync.WaitGroup
	sent := driver.Now()
	for index, each := range args.Records {
		record := &kgo.Record{
			Topic: args.Topic, Partition: each.Partition, Key: driver.Bytes(each.Key), Value: driver.Bytes(each.Value),
		}
		if each.Timestamp != nil {
			record.Timestamp = time.UnixMilli(*each.Timestamp)
		}
		for _, pair := range each.Headers {
			name, value, err := driver.HeaderOf(pair)
			if err != nil {
				return nil, err
			}
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: value})
		}
		waiting.Add(1)
		client.Produce(context.Background(), record, func(done *kgo.Record, err error) {
			defer waiting.Done()
			results[index] = driver.Result{Partition: done.Partition, Offset: &done.Offset}
			if err != nil {
				results[index] = driver.Result{Error: errorName(err), Message: err.Error()}
			}
		})
	}
	waiting.Wait()
	return driver.Produced{Results: results, SentNs: sent, AckedNs: driver.Now()}, nil
}

func consumerOptions(config map[string]string) ([]kgo.Opt, error) {
	var options []kgo.Opt
	for key, value := range config {
		switch key {
		case "fetch.max.wait.ms", "heartbeat.interval.ms", "session.timeout.ms":
			duration, err := driver.Milliseconds(value)
			if err != nil {
				return nil, err
			}
			option := map[string]func(time.Duration) kgo.Opt{
				"fetch.max.wait.ms":     func(d time.Duration) kgo.Opt { return kgo.FetchMaxWait(d) },
				"heartbeat.interval.ms": func(d time.Duration) kgo.Opt { return kgo.HeartbeatInterval(d) },
				"session.timeout.ms":    func(d time.Duration) kgo.Opt { return kgo.SessionTimeout(d) },
			}[key]
			options = append(options, option(duration))
		case "fetch.min.bytes", "max.partition.fetch.bytes":
			number, err := driver.Number(value)
			if err != nil {
				return nil, err
			}
			if key == "fetch.min.bytes" {
				options = append(options, kgo.FetchMinBytes(int32(number)))
			} else {
				options = append(options, kgo.FetchMaxPartitionBytes(int32(number)))
			}
		case "isolation.level":
			if value == "read_committed" {
				options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
			}
		case "check.crcs":
			if value == "false" {
				options = append(options, kgo.DisableFetchCRCValidation())
			}
		case "auto.offset.reset":
			resets := map[string]kgo.Offset{
				"earliest": kgo.NewOffset().AtStart(), "latest": kgo.NewOffset().AtEnd(), "none": kgo.NoResetOffset(),
			}
			options = append(options, kgo.ConsumeResetOffset(resets[value]))
		case "partition.assignment.strategy":
			balancers := map[string]kgo.GroupBalancer{
				"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
				"cooperative-sticky": kgo.CooperativeStickyBalancer(),
			}
			options = append(options, kgo.Balancers(balancers[value]))
		case "group.instance.id":
			options = append(options, kgo.InstanceID(value))
		case "enable.auto.commit", "allow.auto.create.topics":
		default:
			return nil, driver.UnknownSetting(key, value)
		}
	}
	return options, nil
}

func (r *records) startingPoints(topic string, partitions []int32, start driver.Start) (map[int32]kgo.Offset, error) {
	points := map[int32]kgo.Offset{}
	for _, partition := range partitions {
		switch start.At {
		case "beginning":
			points[partition] = kgo.NewOffset().AtStart()
		case "end":
			points[partition] = kgo.NewOffset().AtEnd()
		case "offset":
			points[partition] = kgo.NewOffset().At(start.Value)
		case "timestamp":
			points[partition] = kgo.NewOffset().AfterMilli(start.Value)
		}
	}
	return points, nil
}

func (r *records) read(args driver.Read) (any, error) {
	options, err := consumerOptions(args.Config)
	if err != nil {
		return nil, err
	}
	if _, given := args.Config["auto.offset.reset"]; !given {
		options = append(options, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	}
	points, err := r.startingPoints(args.Topic, args.Partitions, args.Start)
	if err != nil {
		return nil, err
	}
	options = append(options, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{args.Topic: points}))
	client, err := kgo.NewClient(append(common(r.bootstrap), options...)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithDeadline(context.Background(), driver.Deadline(args.TimeoutS))
	defer cancel()
	answer := driver.ReadAnswer{Records: []driver.Received{}, Ended: []int32{}}
	left := map[int32]int64{}
	if args.Count == nil {
		// No event tells the end of a partition: the offset of the last record does.
		ends, err := kadm.NewClient(client).ListEndOffsets(ctx, args.Topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return nil, err
		}
		for _, partition := range args.Partitions {
			end, _ := ends.Lookup(args.Topic, partition)
			if r.startsBefore(args.Start, end.Offset) {
				left[partition] = end.Offset
			}
			answer.Ended = append(answer.Ended, partition)
		}
		slices.Sort(answer.Ended)
	}
	for args.Count == nil && len(left) > 0 || args.Count != nil && len(answer.Records) < *args.Count {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, driver.Errorf("READ_TIMEOUT", "%d records", len(answer.Records))
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return nil, errs[0].Err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if args.Count == nil || len(answer.Records) < *args.Count {
				answer.Records = append(answer.Records, received(record))
			}
			if end, waited := left[record.Partition]; waited && record.Offset+1 >= end {
				delete(left, record.Partition)
			}
		})
	}
	return answer, nil
}

// startsBefore is whether there is anything to read before the end offset.
func (r *records) startsBefore(start driver.Start, end int64) bool {
	switch start.At {
	case "end":
		return false
	case "offset":
		return start.Value < end
	}
	return end > 0
}

func received(record *kgo.Record) driver.Received {
	kinds := map[int8]string{0: "CreateTime", 1: "LogAppendTime"}
	var kind *string
	if name, known := kinds[record.Attrs.TimestampType()]; known {
		kind = &name
	}
	return driver.Received{
		Topic: record.Topic, Partition: record.Partition, Offset: record.Offset, TimestampType: kind,
		Timestamp: record.Timestamp.UnixMilli(), Key: driver.Nullable(record.Key), Value: driver.Nullable(record.Value),
		Headers: driver.HeaderPairs(record.Headers, func(header kgo.RecordHeader) (string, []byte) {
			return header.Key, header.Value
		}),
		ArrivedNs: driver.Now(),
	}
}

func (r *records) offsets(args driver.Offsets) (any, error) {
	client, err := kgo.NewClient(common(r.bootstrap)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := timeout()
	defer cancel()
	admin := kadm.NewClient(client)
	var listed kadm.ListedOffsets
	switch args.At {
	case "beginning":
		listed, err = admin.ListStartOffsets(ctx, args.Topic)
	case "end":
		listed, err = admin.ListEndOffsets(ctx, args.Topic)
	default:
		// ListOffsetsAfterMilli gives the end where nothing is later; the runner wants to know that nothing is.
		listed, err = admin.ListOffsetsAfterMilli(ctx, args.Timestamp, args.Topic)
	}
	if err != nil {
		return nil, err
	}
	found, _ := listed.Lookup(args.Topic, args.Partition)
	if args.At == "timestamp" && found.Timestamp < 0 {
		return -1, found.Err
	}
	return found.Offset, found.Err
}

// A load's producer.
type load struct {
	client *kgo.Client
	topic  string
}

func openLoad(bootstrap string, args driver.LoadStart) (driver.Producer, error) {
	client, err := kgo.NewClient(append(common(bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(2*time.Millisecond))...)
	return &load{client, args.Topic}, err
}

func (l *load) Send(partition int32, value []byte, done func(int64, error)) {
	record := &kgo.Record{Topic: l.topic, Partition: partition, Value: value}
	l.client.Produce(context.Background(), record, func(sent *kgo.Record, err error) { done(sent.Offset, err) })
}

func (l *load) Close() error {
	err := l.client.Flush(context.Background())
	l.client.Close()
	return err
}
