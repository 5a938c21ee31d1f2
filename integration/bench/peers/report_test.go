package peers

import (
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// example is a report of two contenders and two rounds.
func example() *Report {
	r := &Report{Run: Run{Head: Head{Kind: "run"}, Rounds: 2, Rows: 500_000, Coming: 2000, Size: 200, Rates: []int{500, 5000}, Rest: 60,
		Contenders: []string{Poller, Relay}, CPUs: 2, Processor: "a processor", Memory: 23.4, Postgres: "15.1", Kafka: "4.3.1", Debezium: "3.7"}}
	for round := 1; round <= 2; round++ {
		n := float64(round)
		head := func(kind, contender string) Head { return Head{Kind: kind, Contender: contender, Round: round} }
		r.Bares = append(r.Bares, Bare{Head: head("bare", ""), Events: 320, Quantiles: Quantiles{P50: n, P99: 3 * n}})
		for _, c := range []string{Relay, Poller} {
			r.Drains = append(r.Drains,
				Drain{Head: head("drain", c), Rows: 500_000, RowsPerSecond: 100_000 * n, Load: &Load{CPU: 1.5, PeakRSS: 70, WAL: 5_000_000}},
				Drain{Head: head("drain", c), While: "coming", Rows: 260_000, RowsPerSecond: 90_000, Load: &Load{}},
				Drain{Head: head("drain", c), While: "busy", Rows: 100_000, RowsPerSecond: 80_000, Faults: Faults{Reordered: 5}, Load: &Load{}},
				Drain{Head: head("drain", c), While: "killed", Rows: 100_000, RowsPerSecond: 80_000, Kills: 1, Faults: Faults{Doubled: 1000}})
			for _, rate := range r.Run.Rates {
				r.Latencies = append(r.Latencies, Latency{Head: head("latency", c), State: "loaded", Rate: rate, Achieved: 500, Events: 4000,
					Quantiles: Quantiles{P10: 2, P50: 4 * n, P90: 10, P99: 20 * n, P999: 50, Max: 60}, Faults: Faults{Reordered: 2}})
			}
			r.Recoveries = append(r.Recoveries, Recovery{Head: head("recovery", c), Rate: 500, Seconds: n, Events: 2500, Faults: Faults{Lost: 1}})
		}
		r.Idles = append(r.Idles, Idle{Head: head("idle", Relay), CPUPercent: 1, QueriesPerSecond: 20, RSS: 45})
	}
	return r
}

func TestLinesAreReadAsTheyWereWritten(t *testing.T) {
	var text strings.Builder
	if err := example().WriteLines(&text); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLines(strings.NewReader(text.String()))
	if err != nil || !reflect.DeepEqual(got, example()) {
		t.Errorf("got %+v, %v", got, err)
	}
	if strings.Count(text.String(), "\n") != 1+2*(1+2*(4+2+1)+1) {
		t.Errorf("lines:\n%s", text.String())
	}
	for _, broken := range []string{`{"kind":"other"}`, `{"kind":`, `{"kind":"drain","rows":"many"}`} {
		if _, err := ReadLines(strings.NewReader(broken)); err == nil {
			t.Errorf("%s is no error", broken)
		}
	}
}

func TestTheTextHasMediansAndFaults(t *testing.T) {
	text := example().Text()
	for _, want := range []string{
		"Drain of 500,000 rows of 200 bytes; medians of 2 rounds", "| relay | 150,000 | 90,000 |",
		"| relay | 6.00 / 30.0 | 6.00 / 30.0 |", "| a bare transaction of one record | 1.50 / 4.50 |  |",
		"| relay | 1.00 | 0.00 | 20.0 | 45.0 | 1.50 |", "| home-made poller, one |  |  |  |  | 1.50 |",
		"| relay | 0 / 0 / 8 / 0 | 0 / 0 / 10 / 0 | 2 / 2,000 / 0 / 0 |", // 4 latencies; 2 recoveries and 2 drains
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	if strings.Index(text, "| relay |") > strings.Index(text, "| home-made poller, one |") {
		t.Error("the order of rows is not that of All")
	}
}

func TestThePageNeedsNothingElseAndItsPlotsAreWellFormed(t *testing.T) {
	var text strings.Builder
	if err := example().WritePage(&text); err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`(?i)https?:|src=|url\(|@import|<script|<link`).FindString(text.String()); found != "" {
		t.Errorf("the page asks for something: %q", found)
	}
	plots := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text.String(), -1)
	if len(plots) != 7 { // no Postgres time: all of it is 0
		t.Errorf("%d plots", len(plots))
	}
	for _, plot := range plots {
		decoder := xml.NewDecoder(strings.NewReader(plot))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, plot)
			}
		}
		if strings.Contains(plot, "NaN") || strings.Contains(plot, "Inf") {
			t.Errorf("a plot has a value that is none: %s", plot)
		}
	}
	for _, want := range []string{"home-made poller, one", "6.00 / 30.0", "150,000 rows/s", "a processor", "150,000 rows/s, 2 lost, 2,000 doubled, 18 reordered"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}
