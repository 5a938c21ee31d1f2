package peers

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// figure is a plot with its words.
type figure struct {
	Title, Caption string
	SVG            template.HTML
}

const rangeCaption = "From before the INSERT until a read_committed consumer has the record, at steady rates: " +
	"a line from p10 to p99.9, a bar at p50, a dot at p99. The dashed lines are p50 and p99 of a bare Kafka " +
	"transaction of one record. The scale is logarithmic."

// WritePage writes a page with plots that needs no other file and no network.
func (r *Report) WritePage(w io.Writer) error {
	nothing := func(string) string { return "" }
	figures := []figure{
		{"Drain of a backlog", "Rows a second, from the first committed record to the last. What was lost, doubled or " +
			"reordered is that of all measurements, those with kills and with busy aggregates too.",
			r.bars("rows/s", func(c string) []float64 { return r.drains(c, "", speed) }, r.wrong)},
		{"Drain while rows come", fmt.Sprintf("Rows a second while %s more come each second and a consumer reads.", grouped(r.Run.Coming)),
			r.bars("rows/s", func(c string) []float64 { return r.drains(c, "coming", speed) }, nothing)},
	}
	for _, state := range states {
		if svg := r.ranges(state.name); svg != "" {
			figures = append(figures, figure{"Latency " + state.title, rangeCaption, svg})
		}
	}
	figures = append(figures,
		figure{"Processor time", "Seconds of one processor for a million rows of the backlog, of the contender's processes.",
			r.bars("s", func(c string) []float64 { return r.drains(c, "", cpuPerMillion) }, nothing)},
		figure{"Processor time of Postgres", "Seconds of one processor for a million rows of the backlog, all processes of the server.",
			r.bars("s", func(c string) []float64 { return r.drains(c, "", serverPerMillion) }, nothing)},
		figure{"Log that Postgres writes", "Bytes of WAL for a row of the backlog, beyond those of its INSERT.",
			r.bars("bytes", func(c string) []float64 { return r.drains(c, "", walPerRow) }, nothing)},
		figure{"Peak memory", "The most that the contender's processes held in memory up to the end of the drain, in MB of 2^20 bytes.",
			r.bars("MB", func(c string) []float64 { return r.drains(c, "", peak) }, nothing)},
		figure{"Recovery", "Seconds from SIGKILL of all processes, which are started again at once, until a row that was inserted " +
			"after the kill is read.",
			r.bars("s", r.recoveries, nothing)},
	)
	figures = slices.DeleteFunc(figures, func(f figure) bool { return f.SVG == "" }) // all values are 0
	err := page.Execute(w, struct {
		Run        Run
		Contenders []string
		Figures    []figure
		Tables     []table
	}{r.Run, All, figures, r.tables()})
	if err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
