package main

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"ottla/compat/drivers/driver"

	"github.com/IBM/sarama"
)

type records struct {
	bootstrap string
	mutex     sync.Mutex
	producers map[string]*producer
}

// producer hands each outcome to the function that a message carries.
type producer struct {
	sarama.AsyncProducer
	closed sync.WaitGroup
}

type outcome func(message *sarama.ProducerMessage, err error)

func openProducer(bootstrap string, config *sarama.Config) (*producer, error) {
	async, err := sarama.NewAsyncProducer([]string{bootstrap}, config)
	if err != nil {
		return nil, err
	}
	opened := &producer{AsyncProducer: async}
	opened.closed.Add(2)
	go func() {
		defer opened.closed.Done()
		for message := range async.Successes() {
			message.Metadata.(outcome)(message, nil)
		}
	}()
	go func() {
		defer opened.closed.Done()
		for failed := range async.Errors() {
			failed.Msg.Metadata.(outcome)(failed.Msg, failed.Err)
		}
	}()
	return opened, nil
}

func idempotent(config *sarama.Config) {
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
}

func producerConfig(settings map[string]string) (*sarama.Config, error) {
	config := common()
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	acks := map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}
	for key, value := range settings {
		switch key {
		case "compression.type":
			config.Producer.Compression = codecs[value]
		case "acks":
			config.Producer.RequiredAcks = acks[value]
		case "enable.idempotence":
			if value == "true" {
				idempotent(config)
			}
		case "linger.ms":
			linger, err := driver.Milliseconds(value)
			if err != nil {
				return nil, err
			}
			config.Producer.Flush.Frequency = linger
		case "max.request.size", "batch.size":
			size, err := driver.Number(value)
			if err != nil {
				return nil, err
			}
			if key == "max.request.size" {
				// What Sarama compares with it is the record with 36 bytes for its overhead.
				config.Producer.MaxMessageBytes = int(size)
			} else {
				config.Producer.Flush.Bytes = int(size)
			}
		case "max.block.ms":
		default:
			return nil, driver.UnknownSetting(key, value)
		}
	}
	return config, nil
}

func (r *records) producer(settings map[string]string) (*producer, error) {
	key, _ := json.Marshal(settings)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if known, found := r.producers[string(key)]; found {
		return known, nil
	}
	config, err := producerConfig(settings)
	if err != nil {
		return nil, err
	}
	made, err := openProducer(r.bootstrap, config)
	if err == nil {
		r.producers[string(key)] = made
	}
	return made, err
}

// encoder keeps null apart from empty.
func encoder(value *[]byte) sarama.Encoder {
	if value == nil {
		return nil
	}
	return sarama.ByteEncoder(driver.Bytes(value))
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
		message := &sarama.ProducerMessage{
			Topic: args.Topic, Partition: each.Partition, Key: encoder(each.Key), Value: encoder(each.Value),
			Metadata: outcome(func(message *sarama.ProducerMessage, err error) {
				defer waiting.Done()
				results[index] = driver.Result{Partition: message.Partition, Offset: &message.Offset}
				if err != nil {
					results[index] = driver.Result{Error: errorName(err), Message: err.Error()}
				}
			}),
		}
		if each.Timestamp != nil {
			message.Timestamp = time.UnixMilli(*each.Timestamp)
		}
		for _, pair := range each.Headers {
			name, value, err := driver.HeaderOf(pair)
			if err != nil {
				return nil, err
			}
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(name), Value: value})
		}
		waiting.Add(1)
		client.Input() <- message
	}
	waiting.Wait()
	return driver.Produced{Results: results, SentNs: sent, AckedNs: driver.Now()}, nil
}

func consumerConfig(settings map[string]string) (*sarama.Config, error) {
	config := common()
	for key, value := range settings {
		switch key {
		case "fetch.max.wait.ms", "heartbeat.interval.ms", "session.timeout.ms":
			duration, err := driver.Milliseconds(value)
			if err != nil {
				return nil, err
			}
			*map[string]*time.Duration{
				"fetch.max.wait.ms":     &config.Consumer.MaxWaitTime,
				"heartbeat.interval.ms": &config.Consumer.Group.Heartbeat.Interval,
				"session.timeout.ms":    &config.Consumer.Group.Session.Timeout,
			}[key] = duration
		case "fetch.min.bytes", "max.partition.fetch.bytes":
			number, err := driver.Number(value)
			if err != nil {
				return nil, err
			}
			*map[string]*int32{
				"fetch.min.bytes":           &config.Consumer.Fetch.Min,
				"max.partition.fetch.bytes": &config.Consumer.Fetch.Default,
			}[key] = int32(number)
		case "isolation.level":
			if value == "read_committed" {
				config.Consumer.IsolationLevel = sarama.ReadCommitted
			}
		case "auto.offset.reset":
			if value == "latest" {
				config.Consumer.Offsets.Initial = sarama.OffsetNewest
			}
		case "partition.assignment.strategy":
			strategies := map[string]sarama.BalanceStrategy{
				"range": sarama.NewBalanceStrategyRange(), "roundrobin": sarama.NewBalanceStrategyRoundRobin(),
			}
			config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategies[value]}
		case "group.instance.id":
			config.Consumer.Group.InstanceId = value
		case "enable.auto.commit":
			config.Consumer.Offsets.AutoCommit.Enable = value == "true"
		case "allow.auto.create.topics":
			config.Metadata.AllowAutoTopicCreation = value == "true"
		case "check.crcs": // always checked
		default:
			return nil, driver.UnknownSetting(key, value)
		}
	}
	return config, nil
}

func (r *records) startOf(client sarama.Client, topic string, partition int32, start driver.Start) (int64, error) {
	switch start.At {
	case "beginning":
		return client.GetOffset(topic, partition, sarama.OffsetOldest)
	case "end":
		return client.GetOffset(topic, partition, sarama.OffsetNewest)
	case "timestamp":
		return client.GetOffset(topic, partition, start.Value)
	}
	return start.Value, nil
}

func (r *records) read(args driver.Read) (any, error) {
	config, err := consumerConfig(args.Config)
	if err != nil {
		return nil, err
	}
	client, err := sarama.NewClient([]string{r.bootstrap}, config)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	answer := driver.ReadAnswer{Records: []driver.Received{}, Ended: []int32{}}
	left := map[int32]int64{}
	messages := make(chan *sarama.ConsumerMessage)
	failures := make(chan error)
	done := make(chan struct{})
	defer close(done)
	for _, partition := range args.Partitions {
		start, err := r.startOf(client, args.Topic, partition, args.Start)
		if err != nil {
			return nil, err
		}
		if args.Count == nil {
			end, err := client.GetOffset(args.Topic, partition, sarama.OffsetNewest)
			if err != nil {
				return nil, err
			}
			answer.Ended = append(answer.Ended, partition)
			if start >= end {
				continue
			}
			left[partition] = end
		}
		stream, err := consumer.ConsumePartition(args.Topic, partition, start)
		if err != nil {
			return nil, err
		}
		defer stream.AsyncClose()
		go forward(stream, messages, failures, done)
	}
	slices.Sort(answer.Ended)
	deadline := time.After(time.Until(driver.Deadline(args.TimeoutS)))
	for args.Count == nil && len(left) > 0 || args.Count != nil && len(answer.Records) < *args.Count {
		select {
		case message := <-messages:
			answer.Records = append(answer.Records, received(message))
			if end, waited := left[message.Partition]; waited && message.Offset+1 >= end {
				delete(left, message.Partition)
			}
		case err := <-failures:
			return nil, err
		case <-deadline:
			return nil, driver.Errorf("READ_TIMEOUT", "%d records", len(answer.Records))
		}
	}
	return answer, nil
}

func forward(stream sarama.PartitionConsumer, messages chan<- *sarama.ConsumerMessage, failures chan<- error,
	done <-chan struct{}) {
	for {
		select {
		case message, open := <-stream.Messages():
			if !open {
				return
			}
			select {
			case messages <- message:
			case <-done:
				return
			}
		case failed, open := <-stream.Errors():
			if !open {
				return
			}
			select {
			case failures <- failed.Err:
			case <-done:
				return
			}
		case <-done:
			return
		}
	}
}

func received(message *sarama.ConsumerMessage) driver.Received {
	return driver.Received{
		Topic: message.Topic, Partition: message.Partition, Offset: message.Offset,
		Timestamp: message.Timestamp.UnixMilli(), Key: driver.Nullable(message.Key), Value: driver.Nullable(message.Value),
		Headers: driver.HeaderPairs(message.Headers, func(header *sarama.RecordHeader) (string, []byte) {
			return string(header.Key), header.Value
		}),
		ArrivedNs: driver.Now(),
	}
}

func (r *records) offsets(args driver.Offsets) (any, error) {
	client, err := sarama.NewClient([]string{r.bootstrap}, common())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return r.startOf(client, args.Topic, args.Partition, driver.Start{At: args.At, Value: args.Timestamp})
}

// load is a load's producer.
type load struct {
	producer *producer
	topic    string
}

func openLoad(bootstrap string, args driver.LoadStart) (driver.Producer, error) {
	config := common()
	idempotent(config)
	config.Producer.Retry.Max = 10000
	config.Producer.Retry.Backoff = 50 * time.Millisecond
	config.Producer.Flush.Frequency = 2 * time.Millisecond
	opened, err := openProducer(bootstrap, config)
	return &load{opened, args.Topic}, err
}

func (l *load) Send(partition int32, value []byte, done func(int64, error)) {
	l.producer.Input() <- &sarama.ProducerMessage{
		Topic: l.topic, Partition: partition, Value: sarama.ByteEncoder(value),
		Metadata: outcome(func(message *sarama.ProducerMessage, err error) { done(message.Offset, err) }),
	}
}

func (l *load) Close() error {
	l.producer.AsyncClose()
	l.producer.closed.Wait()
	return nil
}
