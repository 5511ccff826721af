// The driver of franz-go and its admin client kadm.
package main

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"ottla/compat/drivers/driver"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const operationSeconds = 50

var capabilities = []string{
	"admin", "assign", "cluster-configs", "commit", "cooperative", "empties", "empty-records", "eof", "group", "idempotence", "load", "log-append-time", "lz4", "name-errors",
	"null-headers", "offset-reset", "offsets-of-acks", "ordered-headers", "range", "reconnect", "roundrobin", "seek", "snappy",
	"static", "timestamps", "zstd",
	"create_partitions", "delete_records", "config_entries", "alter_configs", "incremental_alter_configs",
	"describe_log_dirs", "delete_group", "delete_offsets", "list_offsets", "group_offsets", "describe_producers",
	"list_config_resources",
}

func main() {
	driver.Client{
		Name: "franz", Library: "franz-go", Module: "github.com/twmb/franz-go", Capabilities: capabilities,
		Bind: bind, ErrorName: errorName,
	}.Run()
}

func bind(bootstrap string) driver.Bound {
	records := &records{bootstrap: bootstrap, producers: map[string]*kgo.Client{}}
	operations := map[string]driver.Operation{
		"produce": driver.Op(records.produce),
		"read":    driver.Op(records.read),
		"offsets": driver.Op(records.offsets),
	}
	maps.Copy(operations, adminOperations(bootstrap, records))
	return driver.Bound{
		Operations:   operations,
		OpenConsumer: func(args driver.Open) (driver.Consumer, error) { return openConsumer(bootstrap, args) },
		OpenLoad:     func(args driver.LoadStart) (driver.Producer, error) { return openLoad(bootstrap, args) },
	}
}

func common(bootstrap string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(bootstrap),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}
}

func errorName(err error) string {
	var known *kerr.Error
	switch {
	case errors.As(err, &known):
		return known.Message
	case strings.Contains(err.Error(), "invalid record partitioning choice"):
		// The library learnt from metadata that there is no such partition.
		return kerr.UnknownTopicOrPartition.Message
	case errors.Is(err, kgo.ErrRecordTimeout):
		return "DELIVERY_TIMEOUT"
	case errors.Is(err, context.DeadlineExceeded):
		return "TIMED_OUT"
	}
	return "CLIENT_ERROR"
}

func timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), operationSeconds*time.Second)
}
