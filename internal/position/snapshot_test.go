package position_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/position/positiontest"
)

func TestParseSnapshot(t *testing.T) {
	for text, want := range map[string]position.Snapshot{
		"1:1:":                             {Xmin: 1, Xmax: 1},
		"10:20:":                           {Xmin: 10, Xmax: 20},
		"10:20:10,14,19":                   {Xmin: 10, Xmax: 20, Xip: []uint64{10, 14, 19}},
		"4294967296:4294967299:4294967298": {Xmin: 1 << 32, Xmax: 1<<32 + 3, Xip: []uint64{1<<32 + 2}},
		"18446744073709551615:18446744073709551615:": {Xmin: math.MaxUint64, Xmax: math.MaxUint64},
	} {
		got, err := position.ParseSnapshot(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("position.ParseSnapshot(%q) = %+v, %v; want %+v", text, got, err, want)
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
		if got, err := position.ParseSnapshot(text); err == nil {
			t.Errorf("position.ParseSnapshot(%q) = %+v, want an error", text, got)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
			t.Errorf("the error of %q does not quote it: %v", text, err)
		}
	}
}

func TestSnapshotVisibleAtItsEdges(t *testing.T) {
	s := position.Snapshot{Xmin: 10, Xmax: 15, Xip: []uint64{10, 13}}
	for xid, want := range map[uint64]bool{1: true, 9: true, 10: false, 11: true, 12: true, 13: false, 14: true, 15: false, 16: false, math.MaxUint64: false} {
		if got := s.Visible(xid); got != want {
			t.Errorf("Visible(%d) = %t, want %t", xid, got, want)
		}
	}
	if position.Beginning.Visible(1) || position.Beginning.Visible(3) {
		t.Error("a transaction is visible at the beginning")
	}
	if !(position.Snapshot{}).IsZero() || position.Beginning.IsZero() {
		t.Error("IsZero confuses no snapshot with the beginning")
	}
}

func TestSnapshotVisibleAgreesWithItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := positiontest.Snapshot(t)
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
		s := positiontest.Snapshot(t)
		text, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back position.Snapshot
		if err := back.UnmarshalText(text); err != nil || !reflect.DeepEqual(s, back) {
			t.Fatalf("%+v came back as %+v, %v", s, back, err)
		}
	})
	var s position.Snapshot
	if text, err := s.MarshalText(); len(text) != 0 || err != nil {
		t.Errorf("no snapshot is written as %q, %v", text, err)
	}
	s = position.Beginning
	if err := s.UnmarshalText(nil); err != nil || !s.IsZero() {
		t.Errorf("empty text is read as %s, %v", s, err)
	}
	if err := s.UnmarshalText([]byte("2:1:")); err == nil || !s.IsZero() {
		t.Errorf("a refused text changed the snapshot to %s, %v", s, err)
	}
}

func FuzzParseSnapshot(f *testing.F) {
	for _, seed := range []string{"1:1:", "10:20:10,14,19", "2:1:", "0:0:", "1:3:2,1", "18446744073709551615:18446744073709551615:", "::", "1:2:1,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := position.ParseSnapshot(text)
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

func BenchmarkSnapshot(b *testing.B) {
	for _, running := range []int{0, 50} {
		s := position.Snapshot{Xmin: 4_000_000_000, Xmax: 4_000_000_000 + uint64(2*running) + 1}
		for i := range running {
			s.Xip = append(s.Xip, s.Xmin+uint64(2*i))
		}
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
