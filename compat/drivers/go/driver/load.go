package driver

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// LoadStart are the arguments of that operation.
type LoadStart struct {
	ID          string `json:"id"`
	Topic       string `json:"topic"`
	Partitions  int32  `json:"partitions"`
	AckPath     string `json:"ack_path"`
	RecordsPerS int    `json:"records_per_s"`
	Size        int    `json:"size"`
}

// Producer sends records of a load. `done` is told the offset, or why the record failed.
type Producer interface {
	Send(partition int32, value []byte, done func(offset int64, err error))
	// Close waits until every record is acknowledged or has failed.
	Close() error
}

// What may be under way at once: a producer that blocks or buffers without end tells nothing.
const inFlight = 2000

// Load produces until it is stopped and writes `partition sequence offset` per acknowledgement. A record's value is
// `producer sequence`; each partition has its own sequence.
type load struct {
	args     LoadStart
	producer Producer
	name     func(error) string
	mutex    sync.Mutex
	acks     *bufio.Writer
	file     *os.File
	sent     int64
	acked    int64
	failures []string
	slots    chan struct{}
	stopping chan struct{}
	stopped  chan struct{}
}

type loadState struct {
	Sent     int64    `json:"sent"`
	Acked    int64    `json:"acked"`
	Failures []string `json:"failures"`
	Left     int64    `json:"left"`
}

// LoadOperations are load_start, load_state and load_stop; `open` makes the producer.
func LoadOperations(open func(LoadStart) (Producer, error), name func(error) string) map[string]Operation {
	var mutex sync.Mutex
	loads := map[string]*load{}
	get := func(id string) (*load, error) {
		mutex.Lock()
		defer mutex.Unlock()
		found, known := loads[id]
		if !known {
			return nil, Errorf("NO_SUCH_LOAD", "%s", id)
		}
		return found, nil
	}
	return map[string]Operation{
		"load_start": Op(func(args LoadStart) (any, error) {
			file, err := os.Create(args.AckPath)
			if err != nil {
				return nil, err
			}
			producer, err := open(args)
			if err != nil {
				return nil, err
			}
			started := &load{
				args: args, producer: producer, name: name, file: file, acks: bufio.NewWriter(file),
				slots: make(chan struct{}, inFlight), stopping: make(chan struct{}), stopped: make(chan struct{}),
			}
			go started.run()
			mutex.Lock()
			defer mutex.Unlock()
			loads[args.ID] = started
			return nil, nil
		}),
		"load_state": Op(func(args Named) (any, error) {
			found, err := get(args.ID)
			if err != nil {
				return nil, err
			}
			return found.state(), nil
		}),
		"load_stop": Op(func(args Named) (any, error) {
			found, err := get(args.ID)
			if err != nil {
				return nil, err
			}
			return found.stop()
		}),
	}
}

func (l *load) state() loadState {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	failures := append([]string{}, l.failures[:min(5, len(l.failures))]...)
	return loadState{l.sent, l.acked, failures, l.sent - l.acked - int64(len(l.failures))}
}

func (l *load) stop() (any, error) {
	close(l.stopping)
	<-l.stopped
	// A producer may give up on what is under way when it is closed: every slot is free when nothing is.
	for range cap(l.slots) {
		l.slots <- struct{}{}
	}
	if err := l.producer.Close(); err != nil {
		return nil, err
	}
	state := l.state()
	if err := l.acks.Flush(); err != nil {
		return nil, err
	}
	return state, l.file.Close()
}

func (l *load) run() {
	defer close(l.stopped)
	sequences := make([]int64, l.args.Partitions)
	padding := strings.Repeat(".", l.args.Size)
	between := time.Second / time.Duration(l.args.RecordsPerS)
	due := time.Now()
	for number := int64(0); ; number++ {
		select {
		case <-l.stopping:
			return
		case l.slots <- struct{}{}:
		}
		// While the broker is away the slots are taken: the pace is not caught up with afterwards.
		if now := time.Now(); now.Sub(due) > time.Second {
			due = now
		}
		due = due.Add(between)
		time.Sleep(time.Until(due))
		partition := int32(number % int64(l.args.Partitions))
		sequence := sequences[partition]
		sequences[partition]++
		l.mutex.Lock()
		l.sent++
		l.mutex.Unlock()
		value := fmt.Sprintf("%s %d %s", l.args.ID, sequence, padding)
		l.producer.Send(partition, []byte(value), func(offset int64, err error) {
			l.mutex.Lock()
			if err == nil {
				l.acked++
				fmt.Fprintf(l.acks, "%d %d %d\n", partition, sequence, offset)
			} else {
				l.failures = append(l.failures, fmt.Sprintf("sequence %d: %s: %v", sequence, l.name(err), err))
			}
			l.mutex.Unlock()
			<-l.slots
		})
	}
}
