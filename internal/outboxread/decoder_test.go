package outboxread

import (
	"fmt"
	"strings"
	"testing"
)

// What is remembered of rows is bounded, whatever somebody writes.
func TestWhatIsRememberedOfRowsIsBounded(t *testing.T) {
	d, p := decoder(), &Page{}
	long := strings.Repeat("x", 100<<10)
	for i := range 3 * maxInterned {
		text := fmt.Appendf(nil, "%d", i)
		if i%100 == 0 {
			text = append(text, long...)
		}
		row := binaryRow(int64(i+1), func(values [][]byte) {
			values[colType], values[colAggregateType] = text, text
			if i%3 == 0 {
				values[colTopic] = text
			}
		})
		if err := d.add(p, row); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			p.reset()
		}
	}
	bytes := 0
	for key := range d.strings {
		bytes += 3 * len(key)
	}
	for key, to := range d.routes {
		bytes += len(key) + len(to.topic)
	}
	for key, to := range d.named {
		bytes += len(key) + len(to.topic)
	}
	if n := max(len(d.strings), len(d.routes), len(d.named)); n > maxInterned || bytes > 16<<20 {
		t.Errorf("%d strings of %d bytes are remembered", n, bytes)
	}
}

// A page gives back what a large row made it grow by.
func TestAPageGivesBackWhatItDoesNotNeed(t *testing.T) {
	d, p := decoder(), &Page{}
	var headers strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&headers, `, "h%d": ""`, i)
	}
	row := binaryRow(1, withHeaders("{"+headers.String()[2:]+"}"))
	for range 500 {
		if err := d.add(p, row); err != nil {
			t.Fatal(err)
		}
	}
	p.reset()
	if cap(p.headers) > keptHeaders || cap(p.arena) > 8<<20 {
		t.Errorf("an empty page keeps %d headers and %d bytes", cap(p.headers), cap(p.arena))
	}
}

// fullPage is how many rows a page has under load.
const fullPage = 5000

// A page is used again and again: its memory is made once.
func TestDecodingARowAllocatesNothing(t *testing.T) {
	d, p := decoder(), &Page{}
	row := binaryRow(1, with(colPayload, make([]byte, 200)))
	decode := func() {
		p.reset()
		for range fullPage {
			if err := d.add(p, row); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 8 { // the page grows to its size
		decode()
	}
	const most = 0.01 // a row: the arena is made of blocks
	if perRow := testing.AllocsPerRun(5, decode) / fullPage; perRow > most {
		t.Errorf("%.3f allocations a row, more than %.2f", perRow, most)
	}
}
