package peers

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// values are those that pick takes of the lines, in their order.
func values[T any](lines []T, pick func(T) (float64, bool)) (found []float64) {
	for _, line := range lines {
		if value, ok := pick(line); ok {
			found = append(found, value)
		}
	}
	return found
}

// drains are a figure of the drains of a contender under a condition, one for each round.
func (r *Report) drains(contender, while string, figure func(Drain) float64) []float64 {
	return values(r.Drains, func(d Drain) (float64, bool) {
		if d.Contender != contender || d.While != while {
			return 0, false
		}
		return figure(d), true
	})
}

// latencies are the same of the latency in a state, at a rate.
func (r *Report) latencies(contender, state string, rate int, figure func(Latency) float64) []float64 {
	return values(r.Latencies, func(l Latency) (float64, bool) {
		if l.Contender != contender || l.State != state || l.Rate != rate {
			return 0, false
		}
		return figure(l), true
	})
}

func (r *Report) recoveries(contender string) []float64 {
	return values(r.Recoveries, func(v Recovery) (float64, bool) { return v.Seconds, v.Contender == contender })
}

func (r *Report) bare(figure func(Bare) float64) float64 {
	return median(values(r.Bares, func(b Bare) (float64, bool) { return figure(b), true }))
}

// The figures of a drain beside its speed, each for a number of rows.
func speed(d Drain) float64            { return d.RowsPerSecond }
func cpuPerMillion(d Drain) float64    { return d.CPU * 1e6 / float64(d.Rows) }
func serverPerMillion(d Drain) float64 { return d.PostgresCPU * 1e6 / float64(d.Rows) }
func walPerRow(d Drain) float64        { return float64(d.WAL) / float64(d.Rows) }
func perThousand(d Drain) float64      { return 1000 * float64(d.Transactions) / float64(d.Rows) }
func peak(d Drain) float64             { return d.PeakRSS }

func p50(l Latency) float64 { return l.P50 }
func p99(l Latency) float64 { return l.P99 }

// The conditions for which faults are counted apart.
const (
	undisturbed = iota
	busy        // rows of few aggregates
	killed
	conditions
)

// faults are those of all measurements of a contender, by condition.
func (r *Report) faults(contender string) (sums [conditions]Faults) {
	add := func(condition int, of string, f Faults) {
		if of != contender {
			return
		}
		sums[condition].add(f)
	}
	for _, d := range r.Drains {
		switch d.While {
		case "killed":
			add(killed, d.Contender, d.Faults)
		case "busy":
			add(busy, d.Contender, d.Faults)
		default:
			add(undisturbed, d.Contender, d.Faults)
		}
	}
	for _, l := range r.Latencies {
		add(undisturbed, l.Contender, l.Faults)
	}
	for _, v := range r.Recoveries {
		add(killed, v.Contender, v.Faults)
	}
	return sums
}

// wrong says which faults a contender had in all its measurements, and nothing if it had none.
func (r *Report) wrong(contender string) string {
	var sum Faults
	for _, f := range r.faults(contender) {
		sum.add(f)
	}
	text := ""
	for _, fault := range []struct {
		count int
		name  string
	}{{sum.Lost, "lost"}, {sum.Doubled, "doubled"}, {sum.Reordered, "reordered"}, {sum.Invented, "never written"}} {
		if fault.count > 0 {
			text += ", " + grouped(fault.count) + " " + fault.name
		}
	}
	return text
}

// contenders are those that were measured, in the order of All.
func (r *Report) contenders() []string {
	return slices.DeleteFunc(slices.Clone(All), func(name string) bool {
		return !slices.ContainsFunc(r.Drains, func(d Drain) bool { return d.Contender == name })
	})
}

// States are those in which latency is measured, and what tables call them.
var states = []struct{ name, title string }{
	{"loaded", "right after a load"},
	{"rested", "after a rest"},
}

// table is a heading and rows of cells, the first of each a contender.
type table struct {
	Title string
	Head  []string
	Rows  [][]string
}

// tables are the medians of the run.
func (r *Report) tables() []table {
	tables := []table{r.drainTable()}
	for _, state := range states {
		if t := r.latencyTable(state.name, state.title); len(t.Rows) > 1 {
			tables = append(tables, t)
		}
	}
	return append(tables, r.idleTable(), r.faultTable())
}

func (r *Report) drainTable() table {
	t := table{
		Title: fmt.Sprintf("Drain of %s rows of %d bytes; medians of %d rounds", grouped(r.Run.Rows), r.Run.Size, r.Run.Rounds),
		Head: []string{"", "rows/s", fmt.Sprintf("rows/s while %s/s come", grouped(r.Run.Coming)), "first record after s", "CPU s/million",
			"Postgres CPU s/million", "WAL bytes/row", "transactions/1,000 rows", "peak MB"},
	}
	for _, c := range r.contenders() {
		of := func(figure func(Drain) float64) float64 { return median(r.drains(c, "", figure)) }
		t.Rows = append(t.Rows, []string{Titles[c], grouped(int(of(speed))), grouped(int(median(r.drains(c, "coming", speed)))),
			number(of(func(d Drain) float64 { return d.StartSeconds })), number(of(cpuPerMillion)), number(of(serverPerMillion)),
			number(of(walPerRow)), number(of(perThousand)), number(of(peak))})
	}
	return t
}

func (r *Report) latencyTable(state, title string) table {
	t := table{Title: fmt.Sprintf("Latency %s, p50 / p99 ms, from before the INSERT to a read_committed consumer", title), Head: []string{""}}
	for _, rate := range r.Run.Rates {
		t.Head = append(t.Head, grouped(rate)+"/s")
	}
	for _, c := range r.contenders() {
		row := []string{Titles[c]}
		for _, rate := range r.Run.Rates {
			if middle := r.latencies(c, state, rate, p50); len(middle) > 0 {
				row = append(row, number(median(middle))+" / "+number(median(r.latencies(c, state, rate, p99))))
			}
		}
		if len(row) > 1 {
			t.Rows = append(t.Rows, row)
		}
	}
	bare := number(r.bare(func(b Bare) float64 { return b.P50 })) + " / " + number(r.bare(func(b Bare) float64 { return b.P99 }))
	t.Rows = append(t.Rows, []string{"a bare transaction of one record", bare})
	return t
}

func (r *Report) idleTable() table {
	t := table{
		Title: "Idle, and recovery from SIGKILL of all processes",
		Head:  []string{"", "CPU %", "Postgres CPU %", "queries/s", "MB", fmt.Sprintf("recovered at %d/s after s", recoveryRate)},
	}
	for _, c := range r.contenders() {
		of := func(figure func(Idle) float64) string {
			found := values(r.Idles, func(i Idle) (float64, bool) { return figure(i), i.Contender == c })
			if len(found) == 0 {
				return ""
			}
			return number(median(found))
		}
		t.Rows = append(t.Rows, []string{
			Titles[c], of(func(i Idle) float64 { return i.CPUPercent }), of(func(i Idle) float64 { return i.PostgresPercent }),
			of(func(i Idle) float64 { return i.QueriesPerSecond }), of(func(i Idle) float64 { return i.RSS }),
			number(median(r.recoveries(c))),
		})
	}
	return t
}

func (r *Report) faultTable() table {
	t := table{
		Title: "What arrived beside what was committed, all rounds: lost / doubled / reordered / invented",
		Head:  []string{"", "undisturbed", "few busy aggregates", "with kills"},
	}
	text := func(f Faults) string {
		return fmt.Sprintf("%s / %s / %s / %s", grouped(f.Lost), grouped(f.Doubled), grouped(f.Reordered), grouped(f.Invented))
	}
	for _, c := range r.contenders() {
		of := r.faults(c)
		t.Rows = append(t.Rows, []string{Titles[c], text(of[undisturbed]), text(of[busy]), text(of[killed])})
	}
	return t
}

// Text is the result for a person, as tables in Markdown.
func (r *Report) Text() string {
	var text strings.Builder
	for _, t := range r.tables() {
		fmt.Fprintf(&text, "%s\n\n| %s |\n|%s\n", t.Title, strings.Join(t.Head, " | "), strings.Repeat("---|", len(t.Head)))
		for _, row := range t.Rows {
			for len(row) < len(t.Head) {
				row = append(row, "")
			}
			fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
		}
		text.WriteString("\n")
	}
	return text.String()
}

// number writes three digits that count.
func number(value float64) string {
	switch {
	case value >= 1000:
		return grouped(int(value + 0.5))
	case value >= 100:
		return strconv.FormatFloat(value, 'f', 0, 64)
	case value >= 10:
		return strconv.FormatFloat(value, 'f', 1, 64)
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}

// grouped writes a number with commas between groups of three digits.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
