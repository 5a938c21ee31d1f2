package schedule

import (
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// The log of a partition begins behind what is read next. That may be because its records were
// deleted while they were fetched, so only what stays so is told, once.
func TestWhatIsOnItsWayIsNotSaidToBeDeleted(t *testing.T) {
	s := New(optionsOf(t, 100))
	s.Assign("", map[string][]int32{"orders": {0}})
	at := TopicPartition{Topic: "orders", Number: 0}
	want := func(when string, from, gone int64) {
		t.Helper()
		if f, g := s.Unreadable(at); f != from || g != gone {
			t.Errorf("%s: %d offsets from %d on are said to be gone, want %d from %d on", when, g, f, gone, from)
		}
	}
	s.SetEnds(at, 5, 5)
	want("where the group stands is not known", 0, 0)
	want("where the group stands is not known", 0, 0)
	s.SetNext(at, 10)
	want("all is there", 0, 0)
	s.SetEnds(at, 30, 30)
	want("at the first look", 0, 0)
	s.Admit(at, []*Item{{Message: inbox.Message{Key: []byte("a")}, Offset: 10}}, 5, 30)
	want("one has come meanwhile", 0, 0)
	want("nothing has come meanwhile", 11, 19)
	want("it was told", 0, 0)
	want("it was told", 0, 0)
	if n := s.Snapshot().Deleted; n != 19 {
		t.Errorf("Deleted is %d, want 19", n)
	}
	s.Close(s.Find(at), false)
	s.SetEnds(at, 40, 40)
	want("closed", 0, 0)
	want("closed", 0, 0)
}
