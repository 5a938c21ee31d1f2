package bench

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/outbox-relay/relay/internal/bench/load"
)

// Result is what Run found. Its JSON form is documented in docs/performance.md. What the system
// does not tell is null.
type Result struct {
	// RelayRowsPerSecond and RawRowsPerSecond are medians over the rounds; the raw producer has one
	// transactional id. Ratio is the former by the latter.
	RelayRowsPerSecond float64 `json:"relay_rows_per_s"`
	RawRowsPerSecond   float64 `json:"raw_rows_per_s"`
	Ratio              float64 `json:"ratio"`

	// RawRingRowsPerSecond is that of a raw producer with a ring of ids, and RingRatio the relay's by
	// it.
	RawRingRowsPerSecond float64 `json:"raw_ring_rows_per_s"`
	RingRatio            float64 `json:"ring_ratio"`

	// Latency is that at the first rate, from the commit of the insert to a read_committed consumer,
	// in milliseconds.
	Latency

	// Bare is the latency of a Kafka transaction of one record.
	BareP50 float64 `json:"bare_p50_ms"`
	BareP99 float64 `json:"bare_p99_ms"`
	BareMax float64 `json:"bare_max_ms"`

	// PeakRSSMB is the most memory that a relay held in any drain, in MB of 2^20 bytes.
	PeakRSSMB *float64 `json:"peak_rss_mb"`

	Rows        int    `json:"rows"`
	Size        int    `json:"size"`
	Batch       int    `json:"batch"`
	Partitions  int32  `json:"partitions"`
	Compression string `json:"compression"`

	Rates      []Rate      `json:"rates"`
	Rounds     []Round     `json:"rounds"`
	Conditions []Condition `json:"conditions"`
	Idle       *Idle       `json:"idle"`

	// Postgres is the version of the server; CPUs are those of the machine of the bench.
	Postgres string `json:"postgres"`
	CPUs     int    `json:"cpus"`
}

// Latency is a distribution of times in milliseconds.
type Latency = load.Latency

// Rate is the latency at a rate of inserts.
type Rate struct {
	Rate int `json:"rate"`
	// Achieved is how many a second were inserted: fewer than Rate if the server could not keep up.
	Achieved float64 `json:"achieved_per_s"`
	Events   int     `json:"events"`
	Latency
	// Trace is null if none was asked for.
	Trace *Trace `json:"trace"`
}

// Drain is what one drain of a backlog took.
type Drain struct {
	RowsPerSecond float64  `json:"rows_per_s"`
	PeakRSSMB     *float64 `json:"peak_rss_mb"`
	// CPUSecondsPerMillion is the processor time of the relay for a million rows.
	CPUSecondsPerMillion *float64 `json:"cpu_s_per_million_rows"`
}

// Round is one turn of everybody.
type Round struct {
	Relay                Drain   `json:"relay"`
	RawRowsPerSecond     float64 `json:"raw_rows_per_s"`
	RawRingRowsPerSecond float64 `json:"raw_ring_rows_per_s"`
}

// Condition is the drain under a condition.
type Condition struct {
	Name string `json:"name"`
	// RowsPerSecond is the median over the rounds; Ratio is it by that of the relay without the
	// condition.
	RowsPerSecond float64 `json:"rows_per_s"`
	Ratio         float64 `json:"ratio"`
	Drains        []Drain `json:"drains"`
}

// Idle is what a relay costs that has nothing to publish.
type Idle struct {
	// CPUPercent of one processor.
	CPUPercent *float64 `json:"cpu_percent"`
	// QueriesPerSecond in the database, those of other sessions included.
	QueriesPerSecond float64  `json:"queries_per_s"`
	RSSMB            *float64 `json:"rss_mb"`
}

// Text is the result for a person.
func (r *Result) Text() string {
	var t strings.Builder
	fmt.Fprintf(&t, "Drain of %s rows of %d bytes, %s a transaction, %d partitions, %s; medians of %d rounds\n",
		grouped(r.Rows), r.Size, grouped(r.Batch), r.Partitions, r.Compression, len(r.Rounds))
	fmt.Fprintf(&t, "  relay                              %9s rows/s   peak memory %s\n",
		grouped(int(r.RelayRowsPerSecond)), megabytesText(r.PeakRSSMB))
	fmt.Fprintf(&t, "  raw producer, one id               %9s rows/s   relay ÷ raw %.2f\n", grouped(int(r.RawRowsPerSecond)), r.Ratio)
	fmt.Fprintf(&t, "  raw producer, ring of %d ids        %9s rows/s   relay ÷ raw %.2f\n",
		ringIDs, grouped(int(r.RawRingRowsPerSecond)), r.RingRatio)
	for _, c := range r.Conditions {
		fmt.Fprintf(&t, "  relay, %s: %s rows/s, %.2f of the first\n", c.Name, grouped(int(c.RowsPerSecond)), c.Ratio)
	}
	t.WriteString("\nFrom the commit of an insert to a read_committed consumer\n")
	line := "  %-34s p50 %6.1f ms   p99 %6.1f ms   max %6.1f ms%s\n"
	for _, rate := range r.Rates {
		remark := ""
		if rate.Achieved < 0.98*float64(rate.Rate) {
			remark = fmt.Sprintf("   (only %s/s were reached)", grouped(int(rate.Achieved)))
		}
		fmt.Fprintf(&t, line, grouped(rate.Rate)+" inserts/s", rate.P50, rate.P99, rate.Max, remark)
	}
	fmt.Fprintf(&t, line, "a bare transaction of one record", r.BareP50, r.BareP99, r.BareMax, "")
	for _, rate := range r.Rates {
		if rate.Trace != nil {
			t.WriteString(rate.Trace.text(rate.Rate))
		}
	}
	if r.Idle != nil {
		cpu := "unknown"
		if r.Idle.CPUPercent != nil {
			cpu = fmt.Sprintf("%.1f %% of one processor", *r.Idle.CPUPercent)
		}
		fmt.Fprintf(&t, "\nIdle: %s, %.1f queries/s, %s\n", cpu, r.Idle.QueriesPerSecond, megabytesText(r.Idle.RSSMB))
	}
	return t.String()
}

func megabytesText(megabytes *float64) string {
	if megabytes == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f MB", *megabytes)
}

// grouped writes a number with commas between groups of three digits.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
