package relay

import (
	"fmt"
	"sync"
	"testing"

	"github.com/outbox-relay/relay/internal/pipeline"
)

// Rows that come in while a batch commits are not read into pages that have to wait for each other:
// all of them are in the next batch.
func TestRowsThatComeInDuringACommitAreOneBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	committing, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeEnd {
			once.Do(func() { close(committing); <-release })
		}
	}
	s := r.start(cfg)
	insert(t, r.conn, "a", "commits")
	<-committing
	const many = 50
	for i := range many {
		insert(t, r.conn, "b", fmt.Sprint(i))
	}
	close(release)
	s.awaitRows(t, 1+many)
	s.stop()
	if len(s.batches) != 2 || s.batches[1].Rows != many {
		t.Errorf("the rows came in batches of %+v, want the last %d in one", s.batches, many)
	}
}
