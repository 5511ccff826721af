// Package driver is what the Go drivers share: the protocol with the runner, records in JSON, what a consumer keeps, and
// a load that goes on. README.md tells the protocol.
package driver

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Error is an error of the client, under Kafka's name where it has one.
type Error struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Name + ": " + e.Message }

// Errorf makes an error with a name of its own.
func Errorf(name, format string, args ...any) error {
	return &Error{Name: name, Message: fmt.Sprintf(format, args...)}
}

// CodeName is Kafka's name of an error code.
func CodeName(code int16) string {
	var known *kerr.Error
	if errors.As(kerr.ErrorForCode(code), &known) {
		return known.Message
	}
	return "NONE"
}

// Operation handles one request.
type Operation func(args json.RawMessage) (any, error)

// Op reads the arguments into A. A field the operation does not know is ignored.
func Op[A any](run func(A) (any, error)) Operation {
	return func(raw json.RawMessage) (any, error) {
		var args A
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, Errorf("BAD_ARGUMENTS", "%v", err)
		}
		return run(args)
	}
}

// Hello is the answer to the first request.
type Hello struct {
	Client       string   `json:"client"`
	Version      string   `json:"version"`
	Capabilities []string `json:"capabilities"`
}

// Client is what one driver adds to what they share.
type Client struct {
	// Name is the runner's, Library the one it is known by, Module where its code is.
	Name, Library, Module string
	Capabilities          []string
	// Bind makes the rest, once the broker is known.
	Bind func(bootstrap string) Bound
	// ErrorName is Kafka's name of an error, or the client's.
	ErrorName func(error) string
}

// Bound is a client with a broker.
type Bound struct {
	Operations map[string]Operation
	// Behind consumer_open and load_start.
	OpenConsumer func(Open) (Consumer, error)
	OpenLoad     func(LoadStart) (Producer, error)
}

// Run is the driver's whole life.
func (c Client) Run() {
	operations := map[string]Operation{}
	operations["hello"] = Op(func(args struct {
		Bootstrap string `json:"bootstrap"`
	}) (any, error) {
		var consumers Consumers
		bound := c.Bind(args.Bootstrap)
		maps.Copy(operations, bound.Operations)
		maps.Copy(operations, consumers.Operations(bound.OpenConsumer))
		maps.Copy(operations, LoadOperations(bound.OpenLoad, c.ErrorName))
		return Hello{Client: c.Name, Version: c.Library + " " + ModuleVersion(c.Module), Capabilities: c.Capabilities}, nil
	})
	Serve(operations, c.ErrorName)
}

type request struct {
	ID   int             `json:"id"`
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args"`
}

type answer struct {
	ID     int    `json:"id"`
	Result any    `json:"result,omitempty"`
	Error  *Error `json:"error,omitempty"`
}

// Serve answers requests, side by side, until stdin ends. `translate` names the client's own errors.
func Serve(operations map[string]Operation, translate func(error) string) {
	var writing sync.Mutex
	output := json.NewEncoder(os.Stdout)
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			fmt.Fprintln(os.Stderr, "not a request:", err)
			os.Exit(1)
		}
		go func() {
			result, err := run(operations, asked)
			given := answer{ID: asked.ID, Result: result}
			if err != nil {
				var known *Error
				if !errors.As(err, &known) {
					fmt.Fprintln(os.Stderr, asked.Op, "failed:", err)
					known = &Error{Name: translate(err), Message: err.Error()}
				}
				given.Error = known
			} else if result == nil {
				given.Result = json.RawMessage("null")
			}
			writing.Lock()
			defer writing.Unlock()
			if err := output.Encode(given); err != nil {
				os.Exit(1)
			}
		}()
	}
}

func run(operations map[string]Operation, asked request) (result any, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = Errorf("PANIC", "%v\n%s", panicked, debug.Stack())
		}
	}()
	operation, known := operations[asked.Op]
	if !known {
		return nil, Errorf("NO_SUCH_OPERATION", "%s", asked.Op)
	}
	return operation(asked.Args)
}

var began = time.Now()

// Now is a monotonic clock in nanoseconds.
func Now() int64 { return int64(time.Since(began)) }

// ModuleVersion is the version of a module in this binary.
func ModuleVersion(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == path {
			return module.Version
		}
	}
	return "(unknown)"
}
