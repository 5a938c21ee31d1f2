package checkpoint

import (
	"fmt"
	"testing"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

func benchmarkCheckpoint(running int) Record {
	s := position.Snapshot{Xmin: 4_000_000_000, Xmax: 4_000_000_000 + uint64(2*running) + 1}
	for i := range running {
		s.Xip = append(s.Xip, s.Xmin+uint64(2*i))
	}
	return Record{
		Version: Version, Lane: "outbox", Seq: 123_456_789, Position: position.Position{From: s, To: s, LastID: 987_654_321},
		Identity: ClusterIdentity{Identity: pg.Identity{SystemIdentifier: "7300000000000000000", Timeline: 3, Database: "app", DatabaseOID: 16384}, ClusterID: "5L6g3nShT-eMCtK--X86sw"},
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
