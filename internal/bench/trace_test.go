package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/bench/load"
	"github.com/outbox-relay/relay/internal/timeline"
)

// traced returns two events of which the first does not count, and the batch that has both.
func traced(begin time.Time) (*load.Events, []timeline.Batch) {
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	e := load.NewEvents(2)
	e.IDs[0], e.IDs[1] = 10, 11
	e.Committed[0], e.Committed[1] = at(0), at(1)
	e.Arrived[0], e.Arrived[1] = at(90), at(100)
	return e, []timeline.Batch{{Lane: "outbox", Seq: 7, IDs: []int64{10, 11}, Times: timeline.Times{
		Asked: at(3), Read: at(7), Begun: at(8), Produced: at(9), Intended: at(20), Acknowledged: at(24), Ending: at(25), Ended: at(57),
	}}}
}

func TestATraceDividesTheTimeOfTheEvents(t *testing.T) {
	events, batches := traced(time.Now())
	var file bytes.Buffer
	out := timeline.NewWriter(&file)
	for _, b := range batches {
		out.Write(b)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	read, err := timeline.Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	trace, err := traceOf(read, events, 1)
	if err != nil {
		t.Fatal(err)
	}
	if trace.Batches != 1 {
		t.Errorf("%d batches", trace.Batches)
	}
	want := map[string]float64{
		"wait for a read": 2, "read": 4, "wait for the batch": 1, "produce": 16, "intent, after produce": 1,
		"end of transaction": 32, "to the consumer": 43,
	}
	for _, s := range trace.Stages {
		if w := want[s.Name]; s.Mean != w || s.P50 != w || s.P99 != w || s.Slowest != w {
			t.Errorf("%s: %+v, want %v ms", s.Name, s, w)
		}
		delete(want, s.Name)
	}
	if len(want) > 0 {
		t.Errorf("without %v", want)
	}
	if _, err := traceOf(read, events, 0); err != nil {
		t.Error(err)
	}
	if _, err := traceOf(nil, events, 0); err == nil || !strings.Contains(err.Error(), "0 of 2 events") {
		t.Errorf("a trace without the events: %v", err)
	}
	if _, err := timeline.Read(strings.NewReader("{}\n{")); err == nil {
		t.Error("a trace that is cut off was read")
	}
}

func TestThePictureIsWellFormedAndNamesWhatItShows(t *testing.T) {
	events, batches := traced(time.Now())
	trace, err := traceOf(batches, events, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := Result{Rates: []Rate{{Rate: 2000, Trace: trace}}}
	text := r.Picture()
	for in := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := in.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"2,000/s", "slowest percent", "to the consumer", "end of transaction: 32.00 ms"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture has no %q", want)
		}
	}
	if empty := (&Result{Rates: []Rate{{}}}).Picture(); empty != "" {
		t.Errorf("nothing was traced, and the picture is %q", empty)
	}
}
