package relay

import (
	"fmt"
	"sync"
	"testing"

	"github.com/outbox-relay/relay/internal/pipeline"
)

// While one batch commits and another one waits for it, the rows that come in are not read into a
// page that would have to wait as well: all of them are in the next batch.
func TestRowsThatComeInWhileBatchesWaitAreOneBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	committing, release, flushed := make(chan struct{}), make(chan struct{}), make(chan struct{}, 10)
	var once sync.Once
	cfg.Step = func(step pipeline.Step) {
		switch step {
		case pipeline.AfterFlush:
			flushed <- struct{}{}
		case pipeline.BeforeEnd:
			once.Do(func() { close(committing); <-release })
		}
	}
	s := r.start(cfg)
	insert(t, r.conn, "a", "commits")
	<-committing
	<-flushed
	insert(t, r.conn, "b", "waits")
	<-flushed
	const many = 50
	for i := range many {
		insert(t, r.conn, "c", fmt.Sprint(i))
	}
	close(release)
	s.awaitRows(t, many+2)
	s.stop()
	if len(s.batches) != 3 || s.batches[2].Rows != many {
		t.Errorf("the rows came in batches of %+v, want the last %d in one", s.batches, many)
	}
}
