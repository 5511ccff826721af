// The driver of segmentio's kafka-go.
package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"syscall"
	"time"

	"ottla/compat/drivers/driver"

	"github.com/segmentio/kafka-go"
)

// kafka-go has no idempotent producer, no static members, no cooperative rebalances, and an own idea of round robin; it
// gives null for what is empty, and the producer's time where the broker's counts.
var capabilities = []string{
	"assign", "commit", "empty-records", "eof", "group", "load", "lz4", "name-errors", "null-headers", "offsets-of-acks",
	"ordered-headers", "range", "reconnect", "snappy", "timestamps", "zstd",
	"create_topic", "delete_topic", "metadata", "describe_cluster", "describe_configs", "config_entries", "alter_configs",
	"incremental_alter_configs", "create_partitions", "list_groups", "describe_group", "group_offsets", "delete_group",
	"delete_offsets",
}

const operationSeconds = 50

func main() {
	driver.Client{
		Name: "kafkago", Library: "kafka-go", Module: "github.com/segmentio/kafka-go", Capabilities: capabilities,
		Bind: bind, ErrorName: errorName,
	}.Run()
}

func bind(bootstrap string) driver.Bound {
	records := &records{
		bootstrap: bootstrap,
		client: &kafka.Client{
			Addr: kafka.TCP(bootstrap), Timeout: operationSeconds * time.Second,
			Transport: &kafka.Transport{MetadataTTL: 100 * time.Millisecond},
		},
		writers: map[string]*kafka.Writer{},
	}
	operations := map[string]driver.Operation{
		"produce": driver.Op(records.produce),
		"read":    driver.Op(records.read),
		"offsets": driver.Op(records.offsets),
	}
	maps.Copy(operations, adminOperations(records.client))
	return driver.Bound{
		Operations:   operations,
		OpenConsumer: func(args driver.Open) (driver.Consumer, error) { return openConsumer(records, args) },
		OpenLoad:     func(args driver.LoadStart) (driver.Producer, error) { return openLoad(bootstrap, args) },
	}
}

func errorName(err error) string {
	var code kafka.Error
	var several kafka.WriteErrors
	var large kafka.MessageTooLargeError
	switch {
	case errors.As(err, &several):
		for _, each := range several {
			if each != nil {
				return errorName(each)
			}
		}
	case errors.As(err, &large):
		return "MESSAGE_TOO_LARGE"
	case errors.As(err, &code):
		return driver.CodeName(int16(code))
	case strings.Contains(err.Error(), "no topic partitions for"):
		return "UNKNOWN_TOPIC_OR_PARTITION"
	case errors.Is(err, context.DeadlineExceeded):
		return "TIMED_OUT"
	}
	return "CLIENT_ERROR"
}

const againSeconds = 10

// again repeats what may be asked twice while a connection is gone or a new topic not yet known: kafka-go's Client
// leaves that to its user.
func again[T any](run func(context.Context) (T, error)) (T, error) {
	ctx, cancel := timeout()
	defer cancel()
	for until := time.Now().Add(againSeconds * time.Second); ; time.Sleep(20 * time.Millisecond) {
		answer, err := run(ctx)
		var refused net.Error
		passing := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &refused) ||
			errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, kafka.UnknownTopicOrPartition)
		if !passing || time.Now().After(until) {
			return answer, err
		}
	}
}

func timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), operationSeconds*time.Second)
}
