package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/outbox-relay/relay/internal/bench/load"
	"github.com/outbox-relay/relay/internal/timeline"
)

// Trace says where the time of events went at one rate.
type Trace struct {
	// Batches is how many Kafka transactions they were in.
	Batches int `json:"batches"`
	// Stages follow each other; together they are the whole time.
	Stages []Stage `json:"stages"`
}

// Stage is one stretch of the way of an event, in milliseconds.
type Stage struct {
	Name string  `json:"name"`
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	// Slowest is the mean of the slowest percent of the events, by their whole time: what makes the
	// tail.
	Slowest float64 `json:"slowest_percent_mean_ms"`
	// Histogram counts the events whose stretch took up to StageBounds, and more in the end.
	Histogram []int `json:"histogram"`
}

// StageBounds are the upper bounds of a histogram, in milliseconds.
func StageBounds() []float64 {
	return []float64{0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128}
}

// stages are the stretches of an event's way. Each ends where the next begins.
var stages = []struct {
	name string
	end  func(timeline.Times) time.Time
}{
	{"wait for a read", func(t timeline.Times) time.Time { return t.Asked }},
	{"read", func(t timeline.Times) time.Time { return t.Read }},
	{"wait for the batch", func(t timeline.Times) time.Time { return t.Begun }},
	{"produce", func(t timeline.Times) time.Time { return t.Acknowledged }},
	{"intent, after produce", func(t timeline.Times) time.Time { return t.Ending }},
	{"end of transaction", func(t timeline.Times) time.Time { return t.Ended }},
}

// deliver is the last stretch, up to the consumer.
const deliver = "to the consumer"

// traceOf joins what the relay wrote of its batches with the times of the events from number skip on.
func traceOf(batches []timeline.Batch, e *load.Events, skip int) (*Trace, error) {
	numbers := make(map[int64]int, len(e.IDs))
	for number, id := range e.IDs[skip:] {
		numbers[id] = skip + number
	}
	found := &Trace{}
	var totals []time.Duration
	took := make([][]time.Duration, len(stages)+1)
	for _, b := range batches {
		with := false
		for _, id := range b.IDs {
			number, ours := numbers[id]
			if !ours {
				continue
			}
			with = true
			from := e.Committed[number]
			for i, stage := range stages {
				end := stage.end(b.Times)
				took[i] = append(took[i], end.Sub(from))
				from = end
			}
			took[len(stages)] = append(took[len(stages)], e.Arrived[number].Sub(from))
			totals = append(totals, e.Arrived[number].Sub(e.Committed[number]))
		}
		if with {
			found.Batches++
		}
	}
	if len(totals) != len(numbers) {
		return nil, fmt.Errorf("the relay's trace has %d of %d events", len(totals), len(numbers))
	}
	slow := slowest(totals)
	for i, all := range took {
		name := deliver
		if i < len(stages) {
			name = stages[i].name
		}
		found.Stages = append(found.Stages, stageOf(name, all, slow))
	}
	return found, nil
}

// slowest returns the places of the slowest percent, one at least.
func slowest(totals []time.Duration) []int {
	places := make([]int, len(totals))
	for i := range places {
		places[i] = i
	}
	slices.SortFunc(places, func(a, b int) int { return int(totals[b] - totals[a]) })
	return places[:max(1, len(places)/100)]
}

// milliseconds of a time, to two places.
func milliseconds(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 2) }

func stageOf(name string, took []time.Duration, slow []int) Stage {
	s := Stage{Name: name, Histogram: make([]int, len(StageBounds())+1)}
	var sum, sumOfSlow time.Duration
	for _, d := range took {
		sum += d
		bucket, _ := slices.BinarySearch(StageBounds(), float64(d)/float64(time.Millisecond))
		s.Histogram[bucket]++
	}
	for _, place := range slow {
		sumOfSlow += took[place]
	}
	s.Mean = milliseconds(sum / time.Duration(len(took)))
	s.Slowest = milliseconds(sumOfSlow / time.Duration(len(slow)))
	sorted := slices.Sorted(slices.Values(took))
	s.P50, s.P99 = load.Quantile(sorted, 0.5), load.Quantile(sorted, 0.99)
	return s
}

// traces are what a relay writes while latency is measured; the zero value is for none.
type traces struct {
	folder string
	events []*load.Events // a rate each
}

// file is where the relay writes.
func (t *traces) file() string { return filepath.Join(t.folder, "batches.jsonl") }

func (b *bench) traces() (t traces, err error) {
	if b.cfg.Trace {
		if t.folder, err = os.MkdirTemp("", "relay-bench-"); err != nil {
			err = fmt.Errorf("make a folder for the relay's trace: %w", err)
		}
	}
	return t, err
}

// asked returns the configuration of a relay that writes a trace.
func (t *traces) asked(cfg Config) Config {
	if t.folder != "" {
		cfg.Relay = slices.Concat(cfg.Relay, []string{"--trace", t.file()})
	}
	return cfg
}

// read sets the trace of each rate, once the relay has ended; failed is what went wrong before.
func (t *traces) read(failed error, rates []Rate) error {
	if t.folder == "" || failed != nil {
		return nil
	}
	batches, err := readTrace(t.file())
	if err != nil {
		return err
	}
	for i := range rates {
		if rates[i].Trace, err = traceOf(batches, t.events[i], warmedUp(rates[i].Rate)); err != nil {
			return fmt.Errorf("at %d inserts/s: %w", rates[i].Rate, err)
		}
	}
	return nil
}

// remove removes the file and its folder.
func (t *traces) remove() error {
	if t.folder == "" {
		return nil
	}
	return os.RemoveAll(t.folder)
}

func readTrace(path string) ([]timeline.Batch, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the relay's trace: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	return timeline.Read(file)
}

// text is a table of the stages.
func (t *Trace) text(rate int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\nWhere the time went at %s inserts/s, %s batches, ms\n  %-24s %8s %8s %8s   %s\n",
		grouped(rate), grouped(t.Batches), "", "mean", "p50", "p99", "mean of the slowest percent")
	for _, s := range t.Stages {
		fmt.Fprintf(&out, "  %-24s %8.2f %8.2f %8.2f   %8.2f\n", s.Name, s.Mean, s.P50, s.P99, s.Slowest)
	}
	return out.String()
}
