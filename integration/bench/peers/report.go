package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Report is what a run has found.
type Report struct {
	Run        Run
	Bares      []Bare
	Drains     []Drain
	Latencies  []Latency
	Idles      []Idle
	Recoveries []Recovery
}

// Head is what each line has.
type Head struct {
	Kind      string `json:"kind"`
	Contender string `json:"contender,omitempty"`
	Round     int    `json:"round,omitempty"`
}

// Run is the first line: what was run, and where.
type Run struct {
	Head
	Rounds     int      `json:"rounds"`
	Others     int      `json:"other_rounds"` // of the contenders but the relay and tuned Debezium
	Rows       int      `json:"rows"`
	Coming     int      `json:"coming_per_s"`
	Size       int      `json:"size"`
	Partitions int32    `json:"partitions"`
	Rates      []int    `json:"rates"`
	Seconds    int      `json:"seconds"`
	Rest       int      `json:"rest_s"`
	Contenders []string `json:"contenders"`
	CPUs       int      `json:"cpus"`
	Processor  string   `json:"processor"`
	Memory     float64  `json:"memory_gb"`
	Postgres   string   `json:"postgres"`
	Kafka      string   `json:"kafka"`
	Debezium   string   `json:"debezium"`
}

// Faults are how what arrived differs from what was committed.
type Faults struct {
	Lost      int `json:"lost"`
	Doubled   int `json:"doubled"`
	Reordered int `json:"reordered"`
	Invented  int `json:"invented"`
}

func (f *Faults) add(g Faults) {
	f.Lost, f.Doubled, f.Reordered, f.Invented = f.Lost+g.Lost, f.Doubled+g.Doubled, f.Reordered+g.Reordered, f.Invented+g.Invented
}

// Load is what a measurement cost: the contender's processes, and the server of Postgres, for whose
// share the inserts of the measurement count too.
type Load struct {
	CPU          float64 `json:"cpu_s"`
	PeakRSS      float64 `json:"peak_rss_mb"`
	PostgresCPU  float64 `json:"postgres_cpu_s"`
	WAL          int64   `json:"wal_bytes"`
	Transactions int64   `json:"postgres_transactions"`
	Seconds      float64 `json:"seconds"`
}

// Drain is how fast a backlog went: from the first moment at which a committed record was seen to
// the last.
type Drain struct {
	Head
	// While is "" for a backlog alone, "coming" if rows come meanwhile, "busy" if the rows belong to few
	// aggregates, and "killed" if besides the contender is killed in the middle.
	While         string  `json:"while,omitempty"`
	Rows          int     `json:"rows"`
	RowsPerSecond float64 `json:"rows_per_s"`
	// StartSeconds is the time from the start of the contender to the first committed record.
	StartSeconds float64 `json:"start_s"`
	Kills        int     `json:"kills,omitempty"`
	Faults
	*Load // nil if processes were killed, with what they had used
}

// Latency is that at a steady rate, in milliseconds from before the INSERT until a read_committed
// consumer has the record.
type Latency struct {
	Head
	// State is "loaded" a few seconds after the drains, and "rested" after a pause.
	State    string  `json:"state"`
	Rate     int     `json:"rate"`
	Achieved float64 `json:"achieved_per_s"`
	Events   int     `json:"events"`
	Quantiles
	Faults
	Load
}

// Bare is the latency of a bare Kafka transaction of one record.
type Bare struct {
	Head
	Events int `json:"events"`
	Quantiles
}

// Quantiles of a latency, in milliseconds.
type Quantiles struct {
	P10  float64 `json:"p10_ms"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

// Idle is what a contender costs while there is nothing to publish.
type Idle struct {
	Head
	CPUPercent       float64 `json:"cpu_percent"`
	PostgresPercent  float64 `json:"postgres_cpu_percent"`
	QueriesPerSecond float64 `json:"queries_per_s"`
	RSS              float64 `json:"rss_mb"`
}

// Recovery is what happens if all processes of a contender are killed while rows come at a steady
// rate, and started again at once.
type Recovery struct {
	Head
	Rate int `json:"rate"`
	// Seconds from the kill until the first record of a row that was inserted after it was read.
	Seconds float64 `json:"recovery_s"`
	Events  int     `json:"events"`
	Faults
}

// WriteLines writes a report as lines of JSON, one for each measurement.
func (r *Report) WriteLines(w io.Writer) error {
	encoder := json.NewEncoder(w)
	var err error
	write := func(line any) {
		if err == nil {
			err = encoder.Encode(line)
		}
	}
	write(r.Run)
	for _, line := range r.Bares {
		write(line)
	}
	for _, line := range r.Drains {
		write(line)
	}
	for _, line := range r.Latencies {
		write(line)
	}
	for _, line := range r.Idles {
		write(line)
	}
	for _, line := range r.Recoveries {
		write(line)
	}
	if err != nil {
		return fmt.Errorf("write lines: %w", err)
	}
	return nil
}

// ReadLines reads what WriteLines has written.
func ReadLines(from io.Reader) (*Report, error) {
	r := &Report{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		var head Head
		if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
			return nil, fmt.Errorf("read lines: %w", err)
		}
		var err error
		switch head.Kind {
		case "run":
			err = json.Unmarshal(lines.Bytes(), &r.Run)
		case "bare":
			err = add(&r.Bares, lines.Bytes())
		case "drain":
			err = add(&r.Drains, lines.Bytes())
		case "latency":
			err = add(&r.Latencies, lines.Bytes())
		case "idle":
			err = add(&r.Idles, lines.Bytes())
		case "recovery":
			err = add(&r.Recoveries, lines.Bytes())
		default:
			err = fmt.Errorf("a line of kind %q is unknown", head.Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("read lines: %w", err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read lines: %w", err)
	}
	return r, nil
}

func add[T any](to *[]T, line []byte) error {
	var value T
	err := json.Unmarshal(line, &value)
	*to = append(*to, value)
	return err
}
