package driver

import (
	"sort"
	"sync"
	"time"
)

// Open are the arguments of consumer_open: a group with topics, or partitions with offsets.
type Open struct {
	ID     string            `json:"id"`
	Group  *string           `json:"group"`
	Topics []string          `json:"topics"`
	Assign [][3]any          `json:"assign"`
	Config map[string]string `json:"config"`
}

// Point is a partition with an offset.
type Point struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Points reads lists of topic, partition and, where given, offset.
func Points(listed [][]any) []Point {
	points := make([]Point, 0, len(listed))
	for _, each := range listed {
		point := Point{Topic: each[0].(string), Partition: int32(each[1].(float64)), Offset: -1}
		if len(each) > 2 {
			point.Offset = int64(each[2].(float64))
		}
		points = append(points, point)
	}
	return points
}

// Starts are the partitions a consumer without a group begins with.
func (o Open) Starts() []Point {
	listed := make([][]any, 0, len(o.Assign))
	for _, each := range o.Assign {
		listed = append(listed, each[:])
	}
	return Points(listed)
}

// Action are the arguments of consumer_do.
type Action struct {
	ID         string  `json:"id"`
	Action     string  `json:"action"`
	Mode       string  `json:"mode"`
	Offsets    [][]any `json:"offsets"`
	Partitions [][]any `json:"partitions"`
	Topic      string  `json:"topic"`
	Partition  int32   `json:"partition"`
	Offset     int64   `json:"offset"`
}

// Event is a rebalance as the member saw it.
type Event struct {
	Event      string   `json:"event"`
	Partitions [][2]any `json:"partitions"`
}

// State is the answer to consumer_state.
type State struct {
	Assignment [][2]any `json:"assignment"`
	History    []Event  `json:"history"`
	Received   int      `json:"received"`
	Errors     []string `json:"errors"`
}

// Kept is what a consumer remembers until it is asked.
type Kept struct {
	mutex      sync.Mutex
	records    []Received
	history    []Event
	errors     []string
	received   int
	assignment map[Point]bool
}

// NewKept remembers nothing yet.
func NewKept() *Kept { return &Kept{assignment: map[Point]bool{}} }

// Add keeps a record.
func (k *Kept) Add(record Received) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.records = append(k.records, record)
	k.received++
}

// Fail keeps the name of an error.
func (k *Kept) Fail(name string) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.errors = append(k.errors, name)
}

// Assigned notes partitions that came. Offsets in the points mean nothing.
func (k *Kept) Assigned(points []Point) { k.rebalanced("assigned", points, true) }

// Revoked notes partitions that went, by name of the event: "revoked" or "lost".
func (k *Kept) Revoked(event string, points []Point) { k.rebalanced(event, points, false) }

func (k *Kept) rebalanced(event string, points []Point, owned bool) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for _, each := range points {
		each.Offset = 0
		if owned {
			k.assignment[each] = true
		} else {
			delete(k.assignment, each)
		}
	}
	k.history = append(k.history, Event{Event: event, Partitions: sorted(points)})
}

// State is what happened so far.
func (k *Kept) State() State {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	owned := make([]Point, 0, len(k.assignment))
	for each := range k.assignment {
		owned = append(owned, each)
	}
	return State{
		Assignment: sorted(owned),
		History:    append([]Event{}, k.history...),
		Received:   k.received,
		Errors:     append([]string{}, k.errors...),
	}
}

// Take gives the records since the last call.
func (k *Kept) Take() map[string]any {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	taken := append([]Received{}, k.records...)
	k.records = nil
	return map[string]any{"records": taken}
}

func sorted(points []Point) [][2]any {
	ordered := append([]Point{}, points...)
	sort.Slice(ordered, func(a, b int) bool {
		if ordered[a].Topic != ordered[b].Topic {
			return ordered[a].Topic < ordered[b].Topic
		}
		return ordered[a].Partition < ordered[b].Partition
	})
	listed := make([][2]any, 0, len(ordered))
	for _, each := range ordered {
		listed = append(listed, [2]any{each.Topic, each.Partition})
	}
	return listed
}

// Consumer is one that stays between operations.
type Consumer interface {
	Kept() *Kept
	Do(Action) (any, error)
	Close() error
}

// Consumers are those that are open, by the runner's names.
type Consumers struct {
	mutex sync.Mutex
	open  map[string]Consumer
}

// Operations are those on consumers; `open` makes one.
func (c *Consumers) Operations(open func(Open) (Consumer, error)) map[string]Operation {
	c.open = map[string]Consumer{}
	return map[string]Operation{
		"consumer_open": Op(func(args Open) (any, error) {
			consumer, err := open(args)
			if err != nil {
				return nil, err
			}
			c.mutex.Lock()
			defer c.mutex.Unlock()
			c.open[args.ID] = consumer
			return nil, nil
		}),
		"consumer_state": Op(func(args Named) (any, error) {
			consumer, err := c.get(args.ID)
			if err != nil {
				return nil, err
			}
			return consumer.Kept().State(), nil
		}),
		"consumer_take": Op(func(args Named) (any, error) {
			consumer, err := c.get(args.ID)
			if err != nil {
				return nil, err
			}
			return consumer.Kept().Take(), nil
		}),
		"consumer_do": Op(func(args Action) (any, error) {
			consumer, err := c.get(args.ID)
			if err != nil {
				return nil, err
			}
			return consumer.Do(args)
		}),
		"consumer_close": Op(func(args Named) (any, error) {
			consumer, err := c.get(args.ID)
			if err != nil {
				return nil, err
			}
			c.mutex.Lock()
			delete(c.open, args.ID)
			c.mutex.Unlock()
			return nil, consumer.Close()
		}),
	}
}

func (c *Consumers) get(id string) (Consumer, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	consumer, known := c.open[id]
	if !known {
		return nil, Errorf("NO_SUCH_CONSUMER", "%s", id)
	}
	return consumer, nil
}

// Deadline is the end of an operation that may take so many seconds.
func Deadline(seconds float64) time.Time {
	return time.Now().Add(time.Duration(seconds * float64(time.Second)))
}
