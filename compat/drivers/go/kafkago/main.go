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
}

const operationSeconds = 50

func main() {
	operations := map[string]driver.Operation{}
	operations["hello"] = driver.Op(func(args struct {
		Bootstrap string `json:"bootstrap"`
	}) (any, error) {
		maps.Copy(operations, bound(args.Bootstrap))
		return driver.Hello{
			Client:       "kafkago",
			Version:      "kafka-go " + driver.ModuleVersion("github.com/segmentio/kafka-go"),
			Capabilities: capabilities,
		}, nil
	})
	driver.Serve(operations, errorName)
}

func bound(bootstrap string) map[string]driver.Operation {
	records := &records{
		bootstrap: bootstrap,
		client: &kafka.Client{
			Addr: kafka.TCP(bootstrap), Timeout: operationSeconds * time.Second,
			Transport: &kafka.Transport{MetadataTTL: 100 * time.Millisecond},
		},
		writers: map[string]*kafka.Writer{},
	}
	var consumers driver.Consumers
	operations := map[string]driver.Operation{
		"produce":  driver.Op(records.produce),
		"read":     driver.Op(records.read),
		"offsets":  driver.Op(records.offsets),
		"metadata": driver.Op(records.metadata),
	}
	maps.Copy(operations, consumers.Operations(func(args driver.Open) (driver.Consumer, error) {
		return openConsumer(records, args)
	}))
	maps.Copy(operations, driver.LoadOperations(func(args driver.LoadStart) (driver.Producer, error) {
		return openLoad(bootstrap, args), nil
	}, errorName))
	return operations
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
