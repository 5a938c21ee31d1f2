package schedule

import (
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// Once nothing was seen before, nothing is looked up; once results are mostly duplicates, it is
// again.
func TestLookingUpIsForReplaysOnly(t *testing.T) {
	p := newPartition(t.Context(), TopicPartition{someTopic, 0})
	p.checking = false
	for range checkWindow {
		p.resulted(inbox.Processed)
	}
	if p.checking {
		t.Error("messages are looked up although none was a duplicate")
	}
	for n := range checkWindow {
		if n%2 == 0 {
			p.resulted(inbox.Duplicate)
		} else {
			p.resulted(inbox.Processed)
		}
	}
	if !p.checking {
		t.Error("messages are not looked up although half of them were duplicates")
	}
}
