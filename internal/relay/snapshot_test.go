package relay

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseSnapshot(t *testing.T) {
	for text, want := range map[string]Snapshot{
		"1:1:":                             {Xmin: 1, Xmax: 1},
		"10:20:":                           {Xmin: 10, Xmax: 20},
		"10:20:10,14,19":                   {Xmin: 10, Xmax: 20, Xip: []uint64{10, 14, 19}},
		"4294967296:4294967299:4294967298": {Xmin: 1 << 32, Xmax: 1<<32 + 3, Xip: []uint64{1<<32 + 2}},
		"18446744073709551615:18446744073709551615:": {Xmin: math.MaxUint64, Xmax: math.MaxUint64},
	} {
		got, err := ParseSnapshot(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseSnapshot(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%q becomes %q", text, got.String())
		}
	}
}

func TestParseSnapshotRefusesWhatPostgresNeverWrites(t *testing.T) {
	for _, text := range []string{
		"", ":", "::", "1:1", "1:1::", "0:0:", "0:1:", "2:1:", "1:2:,", "1:3:1,", "1:3:,1", "1:3:2,1", "1:3:1,1", "1:3:3", "2:3:1",
		"-1:2:", "+1:2:", "01:2:", "1:02:", " 1:2:", "1:2: ", "1:2:\n", "a:b:c", "1:18446744073709551616:", "1:3:01", "1:3:0x2", "1_0:20:",
	} {
		if got, err := ParseSnapshot(text); err == nil {
			t.Errorf("ParseSnapshot(%q) = %+v, want an error", text, got)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("the error of %q does not quote it: %v", text, err)
		}
	}
}

func TestSnapshotVisibleAtItsEdges(t *testing.T) {
	s := Snapshot{Xmin: 10, Xmax: 15, Xip: []uint64{10, 13}}
	for xid, want := range map[uint64]bool{1: true, 9: true, 10: false, 11: true, 12: true, 13: false, 14: true, 15: false, 16: false, math.MaxUint64: false} {
		if got := s.Visible(xid); got != want {
			t.Errorf("Visible(%d) = %t, want %t", xid, got, want)
		}
	}
	if beginning.Visible(1) || beginning.Visible(3) {
		t.Error("a transaction is visible at the beginning")
	}
	if !(Snapshot{}).IsZero() || beginning.IsZero() {
		t.Error("IsZero confuses no snapshot with the beginning")
	}
}

// anySnapshot draws a snapshot as a server could return it.
func anySnapshot(t *rapid.T) Snapshot {
	xmin := rapid.Uint64Range(1, math.MaxUint64-100).Draw(t, "xmin")
	length := rapid.Uint64Range(0, 60).Draw(t, "length")
	s := Snapshot{Xmin: xmin, Xmax: xmin + length}
	for xid := s.Xmin; xid < s.Xmax; xid++ {
		if rapid.Bool().Draw(t, "runs") {
			s.Xip = append(s.Xip, xid)
		}
	}
	return s
}

func TestSnapshotVisibleAgreesWithItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySnapshot(t)
		for xid := max(s.Xmin, 3) - 2; xid <= s.Xmax+2; xid++ {
			ended := xid < s.Xmin || (xid < s.Xmax && !slices.Contains(s.Xip, xid))
			if s.Visible(xid) != ended {
				t.Fatalf("%s: Visible(%d) = %t", s, xid, s.Visible(xid))
			}
		}
	})
}

func TestSnapshotTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySnapshot(t)
		text, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Snapshot
		if err := back.UnmarshalText(text); err != nil || !reflect.DeepEqual(s, back) {
			t.Fatalf("%+v came back as %+v, %v", s, back, err)
		}
	})
	var s Snapshot
	if text, err := s.MarshalText(); len(text) != 0 || err != nil {
		t.Errorf("no snapshot is written as %q, %v", text, err)
	}
	s = beginning
	if err := s.UnmarshalText(nil); err != nil || !s.IsZero() {
		t.Errorf("empty text is read as %s, %v", s, err)
	}
	if err := s.UnmarshalText([]byte("2:1:")); err == nil || !s.IsZero() {
		t.Errorf("a refused text changed the snapshot to %s, %v", s, err)
	}
}

func TestSnapshotVisibleAgreesWithPostgres(t *testing.T) {
	t.Parallel()
	conn := open(t, newDatabase(t))
	rapid.Check(t, func(t *rapid.T) {
		s := anySnapshot(t)
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
		got := query[[]int64](t, conn, `
SELECT coalesce(array_agg(x ORDER BY x), '{}') FROM (
    SELECT generate_series(1, 2)::bigint UNION ALL SELECT generate_series(greatest($2::bigint, 3), $3::bigint + 2)) probe (x)
WHERE pg_visible_in_snapshot(x::text::xid8, $1::text::pg_snapshot)`, s.String(), int64(s.Xmin), int64(s.Xmax))
		if !slices.Equal(got, want) {
			t.Fatalf("%s: Postgres says %v, Visible says %v", s, got, want)
		}
		if echo := query[string](t, conn, `SELECT $1::text::pg_snapshot::text`, s.String()); echo != s.String() {
			t.Fatalf("Postgres reads %s as %s", s, echo)
		}
	})
}

func FuzzParseSnapshot(f *testing.F) {
	for _, seed := range []string{"1:1:", "10:20:10,14,19", "2:1:", "0:0:", "1:3:2,1", "18446744073709551615:18446744073709551615:", "::", "1:2:1,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSnapshot(text)
		if err != nil {
			return
		}
		if s.String() != text {
			t.Fatalf("%q is read as %q", text, s)
		}
		if s.IsZero() {
			t.Fatalf("%q is read as no snapshot", text)
		}
		for _, xid := range s.Xip {
			if s.Visible(xid) {
				t.Fatalf("%q: %d runs and is visible", text, xid)
			}
		}
		if s.Visible(s.Xmax) || (s.Xmin > 1 && !s.Visible(s.Xmin-1)) {
			t.Fatalf("%q: wrong at its edges", text)
		}
	})
}
