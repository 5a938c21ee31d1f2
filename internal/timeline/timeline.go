// Package timeline says when each step of a batch was done, and writes and reads that as lines of
// JSON. The pipeline fills it in, relay run --trace writes it, and relay bench --trace reads it. It
// imports no other package of the module.
package timeline

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Batch is one committed batch.
type Batch struct {
	Lane string `json:"lane"`
	Seq  int64  `json:"seq"`
	// IDs are those of the rows of its page, in the order in which they were produced.
	IDs []int64 `json:"ids"`
	Times
}

// Times are when the steps of a batch were done, in their order; only Acknowledged and Intended come
// in either order. Batches of parked rows begin with Begun: what is before that is the zero time.
type Times struct {
	Asked        time.Time `json:"asked"`        // the read was sent
	Read         time.Time `json:"read"`         // its rows were there
	Begun        time.Time `json:"begun"`        // the transaction was begun
	Produced     time.Time `json:"produced"`     // all records had been handed to the client
	Acknowledged time.Time `json:"acknowledged"` // the brokers had all records
	Intended     time.Time `json:"intended"`     // the intent was on disk
	Ending       time.Time `json:"ending"`       // the end of the transaction was asked for
	Ended        time.Time `json:"ended"`        // its coordinator had decided that it is committed
}

// Writer writes batches of any number of lanes, a line each.
type Writer struct {
	mu  sync.Mutex
	out *bufio.Writer
	err error
}

// NewWriter writes to out.
func NewWriter(out io.Writer) *Writer { return &Writer{out: bufio.NewWriterSize(out, 1<<20)} }

// Write writes a batch. What fails is returned by Flush.
func (w *Writer) Write(b Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = json.NewEncoder(w.out).Encode(b)
	}
}

// Flush writes what is buffered, and returns the first error of all.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	return w.out.Flush()
}

// Read reads what a Writer has written.
func Read(from io.Reader) ([]Batch, error) {
	var all []Batch
	for in := json.NewDecoder(from); ; {
		var b Batch
		if err := in.Decode(&b); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read batch %d of a trace: %w", len(all)+1, err)
		}
		all = append(all, b)
	}
}
