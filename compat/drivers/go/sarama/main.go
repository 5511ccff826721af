// The driver of Sarama and its ClusterAdmin.
package main

import (
	"errors"
	"maps"
	"strings"
	"time"

	"ottla/compat/drivers/driver"

	"github.com/IBM/sarama"
)

// Sarama's consumer group has one static membership rule, but no cooperative rebalances; it resets no offsets of
// partitions it was assigned by hand.
var capabilities = []string{
	"admin", "assign", "cluster-configs", "commit", "empties", "empty-records", "eof", "group", "idempotence", "load", "log-append-time", "lz4", "name-errors", "null-headers",
	"offsets-of-acks", "ordered-headers", "range", "reconnect", "roundrobin", "snappy", "static", "timestamps", "zstd",
	"create_partitions", "delete_records", "config_entries", "alter_configs", "incremental_alter_configs",
	"describe_log_dirs", "delete_group", "delete_offsets", "list_offsets", "group_offsets",
}

func main() {
	driver.Client{
		Name: "sarama", Library: "Sarama", Module: "github.com/IBM/sarama", Capabilities: capabilities,
		Bind: bind, ErrorName: errorName,
	}.Run()
}

func bind(bootstrap string) driver.Bound {
	records := &records{bootstrap: bootstrap, producers: map[string]*producer{}}
	operations := map[string]driver.Operation{
		"produce": driver.Op(records.produce),
		"read":    driver.Op(records.read),
		"offsets": driver.Op(records.offsets),
	}
	maps.Copy(operations, adminOperations(bootstrap))
	return driver.Bound{
		Operations:   operations,
		OpenConsumer: func(args driver.Open) (driver.Consumer, error) { return openConsumer(bootstrap, args) },
		OpenLoad:     func(args driver.LoadStart) (driver.Producer, error) { return openLoad(bootstrap, args) },
	}
}

func common() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.ClientID = "compat-sarama"
	config.Metadata.Retry.Max = 100
	config.Metadata.Retry.Backoff = 100 * time.Millisecond
	config.Admin.Retry.Max = 20
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Return.Successes = true
	config.Producer.Return.Errors = true
	config.Consumer.Return.Errors = true
	config.Consumer.Retry.Backoff = 100 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Rebalance.Retry.Max = 100
	config.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	return config
}

func errorName(err error) string {
	var code sarama.KError
	switch {
	case errors.As(err, &code):
		return driver.CodeName(int16(code))
	case errors.Is(err, sarama.ErrInvalidPartition):
		return "UNKNOWN_TOPIC_OR_PARTITION"
	case strings.Contains(err.Error(), "Producer.MaxMessageBytes"):
		return "MESSAGE_TOO_LARGE"
	}
	return "CLIENT_ERROR"
}
