package demo

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/harness/ledger"
)

var update = flag.Bool("update", false, "write the golden files again")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test -update writes it again. Got:\n%s", path, got)
	}
}

func soundResult() *Result {
	return &Result{
		Written: 20_000, RolledBack: 2214, Published: 20_000, RelayKills: 5, Seconds: 6.412, Hidden: 1213, PerSecond: 3119,
		Effects: 20_000, ConsumerKills: 5, DuplicatesSent: 1100, DuplicatesRefused: 1100,
		SumBefore: 144 * openingCents, SumAfter: 144 * openingCents, accounts: 144,
		Postgres: "18.3", writers: 16, stallAfter: time.Minute,
	}
}

func faultyResult() *Result {
	r := soundResult()
	r.Published, r.Lost, r.Duplicated, r.Reordered, r.Invented, r.stalled = 19_998, 3, 2, 1, 1, true
	r.Effects, r.EffectsLost, r.EffectsTwice, r.EffectsReordered, r.EffectsInvented, r.BalancesWrong = 19_996, 4, 2, 3, 1, 7
	r.DuplicatesRefused, r.SumAfter = 1098, r.SumBefore+1
	r.examples = map[ledger.Fault][]string{
		ledger.Lost:       {"message 1 (version 7 of account-001) was committed and never read"},
		ledger.Duplicated: {"message 2 (version 8 of account-001) was read again"},
		ledger.Reordered:  {"message 3 (version 9 of account-001) was read after version 10"},
		ledger.Invented:   {"message 4 (version 11 of account-001) was read, and never written"},
	}
	return r
}

func TestVerdict(t *testing.T) {
	golden(t, "verdict_sound.txt", []byte(soundResult().Verdict()))
	golden(t, "verdict_faulty.txt", []byte(faultyResult().Verdict()))
}

func TestJSONIsTheWrittenContract(t *testing.T) {
	text, err := json.Marshal(faultyResult())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.json", append(text, '\n'))
}

func TestEachFaultAloneIsUnsound(t *testing.T) {
	if !soundResult().Sound() {
		t.Error("a sound result is unsound")
	}
	for name, spoil := range map[string]func(*Result){
		"lost":       func(r *Result) { r.Lost = 1 },
		"duplicated": func(r *Result) { r.Duplicated = 1 },
		"reordered":  func(r *Result) { r.Reordered = 1 },
		"invented":   func(r *Result) { r.Invented = 1 },

		"effects lost":      func(r *Result) { r.EffectsLost = 1 },
		"effects twice":     func(r *Result) { r.EffectsTwice = 1 },
		"effects reordered": func(r *Result) { r.EffectsReordered = 1 },
		"effects invented":  func(r *Result) { r.EffectsInvented = 1 },
		"a balance":         func(r *Result) { r.BalancesWrong = 1 },
		"the sum":           func(r *Result) { r.SumAfter-- },
	} {
		r := soundResult()
		spoil(r)
		if r.Sound() {
			t.Errorf("%s: sound", name)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}
