package outboxread

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/position/positiontest"
)

func TestSnapshotVisibleAgreesWithPostgres(t *testing.T) {
	t.Parallel()
	conn := outboxtest.Open(t, outboxtest.Database(t))
	rapid.Check(t, func(t *rapid.T) {
		s := positiontest.Snapshot(t)
		if s.Xmax+2 > math.MaxInt64 { // a signed series of probes is enough
			shift := s.Xmin - 1
			s.Xmin, s.Xmax = s.Xmin-shift, s.Xmax-shift
			for i := range s.Xip {
				s.Xip[i] -= shift
			}
		}
		var want []int64
		for xid := uint64(1); xid <= 2; xid++ {
			if s.Visible(xid) {
				want = append(want, int64(xid))
			}
		}
		for xid := max(s.Xmin, 3); xid <= s.Xmax+2; xid++ {
			if s.Visible(xid) {
				want = append(want, int64(xid))
			}
		}
		got := outboxtest.Query[[]int64](t, conn, `
SELECT coalesce(array_agg(x ORDER BY x), '{}') FROM (
    SELECT generate_series(1, 2)::bigint UNION ALL SELECT generate_series(greatest($2::bigint, 3), $3::bigint + 2)) probe (x)
WHERE pg_visible_in_snapshot(x::text::xid8, $1::text::pg_snapshot)`, s.String(), int64(s.Xmin), int64(s.Xmax))
		if !slices.Equal(got, want) {
			t.Fatalf("%s: Postgres says %v, Visible says %v", s, got, want)
		}
		if echo := outboxtest.Query[string](t, conn, `SELECT $1::text::pg_snapshot::text`, s.String()); echo != s.String() {
			t.Fatalf("Postgres reads %s as %s", s, echo)
		}
	})
}

func TestPublishedInSQLAgreesWithItsDefinition(t *testing.T) {
	t.Parallel()
	conn := outboxtest.Open(t, outboxtest.Database(t))
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.Custom(func(t *rapid.T) position.Snapshot {
			s := position.Snapshot{Xmin: rapid.Uint64Range(3, 6).Draw(t, "xmin")}
			s.Xmax = s.Xmin + rapid.Uint64Range(0, 4).Draw(t, "length")
			for xid := s.Xmin; xid < s.Xmax; xid++ {
				if rapid.Bool().Draw(t, "runs") {
					s.Xip = append(s.Xip, xid)
				}
			}
			return s
		})
		p := position.Position{From: small.Draw(t, "from")}
		if rapid.Bool().Draw(t, "open") {
			p.To, p.LastID = small.Draw(t, "to"), rapid.Int64Range(0, 4).Draw(t, "last id")
		}
		var want []string
		for xid := uint64(3); xid <= 11; xid++ {
			for id := int64(1); id <= 4; id++ {
				if p.From.Visible(xid) || p.Open() && id <= p.LastID && p.To.Visible(xid) {
					want = append(want, fmt.Sprintf("%d/%d", xid, id))
				}
			}
		}
		condition, params := p.Published(1)
		const rows = ` FROM (SELECT x, x::text::xid8 AS xact_id, id FROM generate_series(3, 11) x, generate_series(1, 4) id) o `
		got := outboxtest.Query[[]string](t, conn, `SELECT coalesce(array_agg(format('%s/%s', x, id) ORDER BY x, id), '{}')`+rows+`WHERE `+condition, params...)
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: Postgres says %v, want %v", p, got, want)
		}
		if n := outboxtest.Query[int64](t, conn, `SELECT count(*)`+rows+`WHERE (`+condition+`) IS NULL`, params...); n != 0 {
			t.Fatalf("%+v: the condition is null for %d rows", p, n)
		}
	})
}
