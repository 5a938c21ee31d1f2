package ledger

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// message is the message number n of a test: version n of an account.
func message(account string, n uint64) Entry[uuid.UUID] {
	var id uuid.UUID
	copy(id[:8], account)
	binary.BigEndian.PutUint64(id[8:], n)
	return Entry[uuid.UUID]{id, Event{account, int64(n)}}
}

func messages(account string, numbers ...uint64) []Entry[uuid.UUID] {
	var all []Entry[uuid.UUID]
	for _, n := range numbers {
		all = append(all, message(account, n))
	}
	return all
}

func TestTheLedgerFindsEachFault(t *testing.T) {
	altered := message("a", 2)
	altered.Version = 3
	elsewhere := message("a", 3)
	elsewhere.Aggregate = "b"
	tests := []struct {
		name                                    string
		committed, rolledBack, read             []Entry[uuid.UUID]
		lost, duplicated, reordered, inventions int
		example                                 string
	}{
		{name: "nothing at all"},
		{name: "all is well", committed: messages("a", 1, 2, 3), rolledBack: messages("r", 1), read: messages("a", 1, 2, 3)},
		{name: "accounts interleave", committed: append(messages("a", 1, 2), messages("b", 1, 2)...),
			read: append(append(messages("a", 1), messages("b", 1, 2)...), messages("a", 2)...)},
		{name: "the last is lost", committed: messages("a", 1, 2, 3), read: messages("a", 1, 2), lost: 1, example: "committed and never read"},
		{name: "the first is lost", committed: messages("a", 1, 2, 3), read: messages("a", 2, 3), lost: 1, example: "version 1 of a"},
		{name: "all are lost", committed: messages("a", 1, 2, 3), lost: 3},
		{name: "one comes twice in a row", committed: messages("a", 1, 2), read: messages("a", 1, 1, 2), duplicated: 1, example: "read again"},
		{name: "a batch comes twice", committed: messages("a", 1, 2, 3), read: messages("a", 1, 2, 3, 1, 2, 3), duplicated: 3},
		{name: "one comes three times", committed: messages("a", 1), read: messages("a", 1, 1, 1), duplicated: 2},
		{name: "two change places", committed: messages("a", 1, 2, 3), read: messages("a", 1, 3, 2), reordered: 1, example: "read after version 3"},
		{name: "the first comes last", committed: messages("a", 1, 2, 3), read: messages("a", 2, 3, 1), reordered: 1},
		{name: "the last comes first", committed: messages("a", 1, 2, 3), read: messages("a", 3, 1, 2), reordered: 2},
		{name: "a rolled-back one is read", committed: messages("a", 1, 2), rolledBack: messages("a", 3), read: messages("a", 1, 2, 3),
			inventions: 1, example: "was rolled back"},
		{name: "one is read that was never written", committed: messages("a", 1), read: messages("a", 1, 7), inventions: 1, example: "never written"},
		{name: "one changes its version", committed: messages("a", 1, 2), read: []Entry[uuid.UUID]{message("a", 1), altered},
			inventions: 1, example: "committed as version 2 of a and read as version 3 of a"},
		{name: "one changes its account", committed: messages("a", 1, 3), read: []Entry[uuid.UUID]{message("a", 1), elsewhere}, inventions: 1},
		{name: "everything at once", committed: messages("a", 1, 2, 3, 4), rolledBack: messages("r", 1),
			read: append(messages("a", 1, 3, 2, 2), messages("r", 1)...), lost: 1, duplicated: 1, reordered: 1, inventions: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := New[uuid.UUID]()
			l.Commit(test.committed)
			l.RollBack(test.rolledBack)
			l.Arrive(test.read)
			v := l.Audit()
			if v.Lost != test.lost || v.Duplicated != test.duplicated || v.Reordered != test.reordered || v.Invented != test.inventions {
				t.Errorf("lost %d, duplicated %d, reordered %d, invented %d; want %d, %d, %d, %d", v.Lost, v.Duplicated,
					v.Reordered, v.Invented, test.lost, test.duplicated, test.reordered, test.inventions)
			}
			if v.Missing != test.lost {
				t.Errorf("missing %d, want %d", v.Missing, test.lost)
			}
			if all := strings.Join(flatten(v.Examples), "\n"); !strings.Contains(all, test.example) {
				t.Errorf("no example says %q:\n%s", test.example, all)
			}
		})
	}
}

func flatten(examples map[Fault][]string) []string {
	var all []string
	for _, some := range examples {
		all = append(all, some...)
	}
	return all
}

func TestAMessageReadBeforeItsCommitIsNotedIsNoFault(t *testing.T) {
	l := New[uuid.UUID]()
	l.Arrive(messages("a", 1, 2))
	if s, _ := l.Now(); s.Missing != 0 || s.Published != 2 || s.Written != 0 {
		t.Errorf("before the commit: %+v", s)
	}
	l.Commit(messages("a", 1, 2))
	v := l.Audit()
	if v.Missing != 0 || v.Lost+v.Invented+v.Duplicated+v.Reordered != 0 {
		t.Errorf("%+v", v)
	}
}

func TestAnUnreadableRecordIsInvented(t *testing.T) {
	l := New[uuid.UUID]()
	l.ArriveUnreadable(errors.New("partition 1, offset 2: no header"))
	v := l.Audit()
	if v.Invented != 1 || v.Records != 1 || len(v.Examples[Invented]) != 1 {
		t.Errorf("invented %d, records %d, examples %q", v.Invented, v.Records, v.Examples)
	}
}

func TestExamplesAreFew(t *testing.T) {
	l := New[uuid.UUID]()
	l.Commit(messages("a", 1, 2, 3, 4, 5, 6, 7, 8, 9))
	if v := l.Audit(); v.Lost != 9 || len(v.Examples[Lost]) != mostExamples {
		t.Errorf("lost %d, %d examples", v.Lost, len(v.Examples[Lost]))
	}
}

func TestEveryEntryAnnouncesAChange(t *testing.T) {
	l := New[uuid.UUID]()
	for name, enter := range map[string]func(){
		"commit":     func() { l.Commit(messages("a", 1)) },
		"roll back":  func() { l.RollBack(messages("a", 2)) },
		"arrive":     func() { l.Arrive(nil) },
		"unreadable": func() { l.ArriveUnreadable(errors.New("x")) },
	} {
		_, changed := l.Now()
		enter()
		select {
		case <-changed:
		default:
			t.Errorf("%s was not announced", name)
		}
	}
}
