package demo

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestATerminalRedrawsItsLine(t *testing.T) {
	var out bytes.Buffer
	s := NewScreen(&out, true, func(err error) { t.Error(err) })
	s.Progress(Progress{Messages: 20_000, Written: 1500, Published: 1400, Booked: 1300})
	s.Progress(Progress{Messages: 20_000, Written: 1600, Published: 1600})
	s.Event("kill 1")
	s.Event("kill 2")
	s.Progress(Progress{Messages: 20_000, Kills: 2, BankKills: 3})
	s.Close()
	got := regexp.MustCompile(` *\d\.\ds`).ReplaceAllString(out.String(), "T")
	want := "\rT 1,500/20,000 written, 1,400 read, 1,300 booked, 0+0 kills\x1b[K" +
		"\rT 1,600/20,000 written, 1,600 read, 0 booked, 0+0 kills\x1b[K" +
		"\r\x1b[Kkill 1\nkill 2\n" +
		"\rT 0/20,000 written, 0 read, 0 booked, 2+3 kills\x1b[K\n"
	if got != want {
		t.Errorf("drew %q, want %q", got, want)
	}
}

func TestElsewhereALineIsWrittenNowAndThen(t *testing.T) {
	var out bytes.Buffer
	s := NewScreen(&out, false, func(err error) { t.Error(err) })
	for range 100 {
		s.Progress(Progress{Messages: 20_000, Faults: 3})
	}
	s.Close()
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, ", 3 FAULTS\n") || strings.Contains(got, "\r") {
		t.Errorf("wrote %q", got)
	}
}
