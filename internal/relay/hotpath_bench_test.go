package relay

import (
	"fmt"
	"testing"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// fullPage is how many rows a page has under load.
const fullPage = 5000

// A page is used again and again: its memory is made once.
func TestDecodingARowAllocatesNothing(t *testing.T) {
	d, p := decoder(), &page{}
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

func benchmarkCheckpoint(running int) checkpoint.Record {
	s := position.Snapshot{Xmin: 4_000_000_000, Xmax: 4_000_000_000 + uint64(2*running) + 1}
	for i := range running {
		s.Xip = append(s.Xip, s.Xmin+uint64(2*i))
	}
	return checkpoint.Record{
		Version: checkpoint.Version, Lane: "outbox", Seq: 123_456_789, Position: position.Position{From: s, To: s, LastID: 987_654_321},
		Identity: checkpoint.ClusterIdentity{Identity: pg.Identity{SystemIdentifier: "7300000000000000000", Timeline: 3, Database: "app", DatabaseOID: 16384}, ClusterID: "5L6g3nShT-eMCtK--X86sw"},
		Owner:    "host/1234/deadbeef", OwnerEpoch: 17,
	}
}

// One operation is one batch.
func BenchmarkEncodeCheckpoint(b *testing.B) {
	for _, running := range []int{0, 50} {
		b.Run(fmt.Sprintf("%d transactions running", running), func(b *testing.B) {
			c := benchmarkCheckpoint(running)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One operation is one read.
func BenchmarkSnapshot(b *testing.B) {
	for _, running := range []int{0, 50} {
		s := benchmarkCheckpoint(running).From
		text := s.String()
		b.Run(fmt.Sprintf("parse/%d transactions running", running), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := position.ParseSnapshot(text); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("format/%d transactions running", running), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if s.String() == "" {
					b.Fatal("no text")
				}
			}
		})
	}
}
