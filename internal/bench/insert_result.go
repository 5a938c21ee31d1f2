package bench

import (
	"fmt"
	"strings"
)

// InsertResult is what RunInsert found. Its JSON form is documented in docs/performance.md.
type InsertResult struct {
	// Lines are one for each number of writers.
	Lines []InsertLine `json:"writers"`

	Size int `json:"size"`
	// RowBytes is the size of the row of an event, and of a plain row.
	RowBytes int     `json:"row_bytes"`
	Rounds   int     `json:"rounds"`
	Seconds  float64 `json:"seconds"`

	Postgres          string `json:"postgres"`
	SynchronousCommit string `json:"synchronous_commit"`
	CPUs              int    `json:"cpus"`
}

// InsertLine holds commits a second with a number of writers, medians over the rounds.
type InsertLine struct {
	Writers int `json:"writers"`
	// None is without an event, Plain with a plain row of the same size, Event with an event.
	None  float64 `json:"none_commits_per_s"`
	Plain float64 `json:"plain_commits_per_s"`
	Event float64 `json:"event_commits_per_s"`
	// ToPlain and ToNone are Event by the other two.
	ToPlain float64 `json:"ratio_to_plain"`
	ToNone  float64 `json:"ratio_to_none"`
}

// Text is the result for a person.
func (r *InsertResult) Text() string {
	var t strings.Builder
	fmt.Fprintf(&t, "Commits a second; medians of %d rounds of %.0f s, rows of %d bytes, synchronous_commit %s\n\n", r.Rounds, r.Seconds,
		r.RowBytes, r.SynchronousCommit)
	fmt.Fprintln(&t, "  writers   no event   plain row      event   event ÷ plain   event ÷ no event")
	for _, l := range r.Lines {
		fmt.Fprintf(&t, "  %7d  %9s   %9s  %9s   %13.2f   %16.2f\n", l.Writers, grouped(int(l.None)), grouped(int(l.Plain)),
			grouped(int(l.Event)), l.ToPlain, l.ToNone)
	}
	return t.String()
}
