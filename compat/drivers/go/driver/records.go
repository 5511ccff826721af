package driver

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Record is one to be produced.
type Record struct {
	Key       *[]byte      `json:"key"`
	Value     *[]byte      `json:"value"`
	Headers   [][2]*string `json:"headers"`
	Partition int32        `json:"partition"`
	Timestamp *int64       `json:"timestamp"`
}

// Produce are the arguments of that operation.
type Produce struct {
	Topic   string            `json:"topic"`
	Records []Record          `json:"records"`
	Config  map[string]string `json:"config"`
}

// Result is what became of one record.
type Result struct {
	Partition int32  `json:"partition"`
	Offset    *int64 `json:"offset"`
	Error     string `json:"error,omitempty"`
	Message   string `json:"message,omitempty"`
}

// Produced is the answer to Produce.
type Produced struct {
	Results []Result `json:"results"`
	SentNs  int64    `json:"sent_ns"`
	AckedNs int64    `json:"acked_ns"`
}

// Received is a record as a consumer got it.
type Received struct {
	Topic         string       `json:"topic"`
	Partition     int32        `json:"partition"`
	Offset        int64        `json:"offset"`
	TimestampType *string      `json:"timestamp_type"`
	Timestamp     int64        `json:"timestamp"`
	Key           *[]byte      `json:"key"`
	Value         *[]byte      `json:"value"`
	Headers       [][2]*string `json:"headers"`
	ArrivedNs     int64        `json:"arrived_ns"`
}

// Start is where reading begins.
type Start struct {
	At    string `json:"at"`
	Value int64  `json:"value"`
}

// Read are the arguments of that operation.
type Read struct {
	Topic      string            `json:"topic"`
	Partitions []int32           `json:"partitions"`
	Start      Start             `json:"start"`
	Count      *int              `json:"count"`
	Config     map[string]string `json:"config"`
	TimeoutS   float64           `json:"timeout_s"`
}

// ReadAnswer is the answer to Read.
type ReadAnswer struct {
	Records []Received `json:"records"`
	Ended   []int32    `json:"ended"`
}

// Offsets are the arguments of that operation.
type Offsets struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	At        string `json:"at"`
	Timestamp int64  `json:"timestamp"`
}

// CreateTopic are the arguments of that operation.
type CreateTopic struct {
	Name              string            `json:"name"`
	Partitions        int32             `json:"partitions"`
	ReplicationFactor int16             `json:"replication_factor"`
	Configs           map[string]string `json:"configs"`
}

// Replicas is 1 where nothing was asked for.
func (c CreateTopic) Replicas() int16 {
	if c.ReplicationFactor == 0 {
		return 1
	}
	return c.ReplicationFactor
}

// Named are the arguments of operations on one thing.
type Named struct {
	ID    string  `json:"id"`
	Name  string  `json:"name"`
	Kind  string  `json:"kind"`
	Group string  `json:"group"`
	Topic *string `json:"topic"`
}

// HeaderPairs are headers as JSON has them: a name and a value in base64, or null.
func HeaderPairs[H any](headers []H, pair func(H) (string, []byte)) [][2]*string {
	pairs := make([][2]*string, 0, len(headers))
	for _, each := range headers {
		name, value := pair(each)
		entry := [2]*string{&name, nil}
		if value != nil {
			text := base64.StdEncoding.EncodeToString(value)
			entry[1] = &text
		}
		pairs = append(pairs, entry)
	}
	return pairs
}

// HeaderOf is the opposite of HeaderPairs, for one of them.
func HeaderOf(pair [2]*string) (string, []byte, error) {
	if pair[1] == nil {
		return *pair[0], nil, nil
	}
	value, err := base64.StdEncoding.DecodeString(*pair[1])
	return *pair[0], value, err
}

// Bytes is nil for null.
func Bytes(value *[]byte) []byte {
	if value == nil {
		return nil
	}
	if *value == nil {
		return []byte{}
	}
	return *value
}

// Nullable is the opposite of Bytes.
func Nullable(value []byte) *[]byte {
	if value == nil {
		return nil
	}
	return &value
}

// Milliseconds reads a setting.
func Milliseconds(value string) (time.Duration, error) {
	number, err := Number(value)
	return time.Duration(number) * time.Millisecond, err
}

// Number reads a setting.
func Number(value string) (int64, error) {
	number, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, Errorf("BAD_SETTING", "%q is not a number", value)
	}
	return number, nil
}

// UnknownSetting refuses what a driver would otherwise ignore silently.
func UnknownSetting(key, value string) error {
	return Errorf("UNSUPPORTED_SETTING", "%s=%s has no counterpart here", key, value)
}

// StateName is a group's state as the Java client spells it.
func StateName(state string) string {
	var name strings.Builder
	for index, letter := range state {
		if index > 0 && unicode.IsUpper(letter) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(letter))
	}
	return name.String()
}

// SortPairs orders topics with partitions.
func SortPairs(pairs [][2]any) {
	slices.SortFunc(pairs, func(a, b [2]any) int {
		if byTopic := strings.Compare(a[0].(string), b[0].(string)); byTopic != 0 {
			return byTopic
		}
		return int(a[1].(int32) - b[1].(int32))
	})
}
