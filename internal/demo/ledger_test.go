package demo

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// message is the message number n of a test: version n of an account.
func message(account string, n uint64) entry {
	var id uuid.UUID
	copy(id[:8], account)
	binary.BigEndian.PutUint64(id[8:], n)
	return entry{id, event{account, int64(n)}}
}

func messages(account string, numbers ...uint64) []entry {
	var all []entry
	for _, n := range numbers {
		all = append(all, message(account, n))
	}
	return all
}

func TestTheLedgerFindsEachFault(t *testing.T) {
	altered := message("a", 2)
	altered.version = 3
	elsewhere := message("a", 3)
	elsewhere.account = "b"
	tests := []struct {
		name                                    string
		committed, rolledBack, read             []entry
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
		{name: "one is read that nobody wrote", committed: messages("a", 1), read: messages("a", 1, 7), inventions: 1, example: "nobody wrote it"},
		{name: "one changes its version", committed: messages("a", 1, 2), read: []entry{message("a", 1), altered},
			inventions: 1, example: "committed as version 2 of a and read as version 3 of a"},
		{name: "one changes its account", committed: messages("a", 1, 3), read: []entry{message("a", 1), elsewhere}, inventions: 1},
		{name: "everything at once", committed: messages("a", 1, 2, 3, 4), rolledBack: messages("r", 1),
			read: append(messages("a", 1, 3, 2, 2), messages("r", 1)...), lost: 1, duplicated: 1, reordered: 1, inventions: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			l.commit(test.committed)
			l.rollBack(test.rolledBack)
			l.arrive(test.read)
			s, lostCount, inventedCount, examples := l.audit()
			if lostCount != test.lost || s.duplicated != test.duplicated || s.reordered != test.reordered || inventedCount != test.inventions {
				t.Errorf("lost %d, duplicated %d, reordered %d, invented %d; want %d, %d, %d, %d", lostCount, s.duplicated,
					s.reordered, inventedCount, test.lost, test.duplicated, test.reordered, test.inventions)
			}
			if s.missing != test.lost {
				t.Errorf("missing %d, want %d", s.missing, test.lost)
			}
			if all := strings.Join(flatten(examples), "\n"); !strings.Contains(all, test.example) {
				t.Errorf("no example says %q:\n%s", test.example, all)
			}
		})
	}
}

func flatten(examples map[fault][]string) []string {
	var all []string
	for _, some := range examples {
		all = append(all, some...)
	}
	return all
}

func TestAMessageReadBeforeItsCommitIsNotedIsNoFault(t *testing.T) {
	l := newLedger()
	l.arrive(messages("a", 1, 2))
	if s, _ := l.now(); s.missing != 0 || s.published != 2 || s.written != 0 {
		t.Errorf("before the commit: %+v", s)
	}
	l.commit(messages("a", 1, 2))
	s, lostCount, inventedCount, _ := l.audit()
	if s.missing != 0 || lostCount+inventedCount+s.duplicated+s.reordered != 0 {
		t.Errorf("%+v, lost %d, invented %d", s, lostCount, inventedCount)
	}
}

func TestAnUnreadableRecordIsInvented(t *testing.T) {
	l := newLedger()
	l.arriveUnreadable(errors.New("partition 1, offset 2: no header"))
	s, _, inventedCount, examples := l.audit()
	if inventedCount != 1 || s.records != 1 || len(examples[invented]) != 1 {
		t.Errorf("invented %d, records %d, examples %q", inventedCount, s.records, examples)
	}
}

func TestExamplesAreFew(t *testing.T) {
	l := newLedger()
	l.commit(messages("a", 1, 2, 3, 4, 5, 6, 7, 8, 9))
	if _, lostCount, _, examples := l.audit(); lostCount != 9 || len(examples[lost]) != mostExamples {
		t.Errorf("lost %d, %d examples", lostCount, len(examples[lost]))
	}
}

func TestEveryEntryAnnouncesAChange(t *testing.T) {
	l := newLedger()
	for name, enter := range map[string]func(){
		"commit":     func() { l.commit(messages("a", 1)) },
		"roll back":  func() { l.rollBack(messages("a", 2)) },
		"arrive":     func() { l.arrive(nil) },
		"unreadable": func() { l.arriveUnreadable(errors.New("x")) },
	} {
		_, changed := l.now()
		enter()
		select {
		case <-changed:
		default:
			t.Errorf("%s was not announced", name)
		}
	}
}
