package inbox

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// marks are the marks that one transaction of a batch writes.
type marks struct {
	// bySource are the keys of each source, each once and in order.
	sources  []string
	bySource map[string][]uuid.UUID
	// left are the messages whose mark is new, until they are taken: a second copy in the same batch
	// is a duplicate.
	left map[ledger.Identity]bool
}

func newMarks(ids []ledger.Identity) *marks {
	m := &marks{bySource: map[string][]uuid.UUID{}, left: make(map[ledger.Identity]bool, len(ids))}
	for _, id := range ids {
		if m.left[id] {
			continue
		}
		m.left[id] = true
		if _, known := m.bySource[id.Source]; !known {
			m.sources = append(m.sources, id.Source)
		}
		m.bySource[id.Source] = append(m.bySource[id.Source], id.Mark)
	}
	slices.Sort(m.sources)
	for _, keys := range m.bySource {
		slices.SortFunc(keys, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	}
	return m
}

// take reports whether the message is fresh, once.
func (m *marks) take(id ledger.Identity) bool {
	fresh := m.left[id]
	if fresh {
		m.left[id] = false
	}
	return fresh
}

// statementsOf write the marks: those that are new, or all of them, or none if one of them is
// there.
func statementsOf[TTx any](i *Inbox[TTx], m *marks, allNew bool) []inboxdriver.Statement {
	all := make([]inboxdriver.Statement, 0, len(m.sources)+1)
	for _, source := range m.sources {
		keys := m.bySource[source]
		if allNew {
			all = append(all, inboxdriver.Statement{SQL: i.ledger.SQL.MarkMany, Args: []any{i.cfg.Consumer, source, keys}})
			continue
		}
		all = append(all, inboxdriver.Statement{
			SQL: i.ledger.SQL.AcceptMany, Args: []any{i.cfg.Consumer, source, keys, int64(len(keys))},
			Each: func(row inboxdriver.Row) error {
				var n int64
				var fresh *string
				if err := row.Scan(&n, &fresh); err != nil || fresh == nil {
					return err
				}
				return m.keep(source, *fresh)
			},
		})
	}
	return all
}

// keep leaves only those keys of a source that are listed.
func (m *marks) keep(source, listed string) error {
	for _, key := range m.bySource[source] {
		m.left[ledger.Identity{Source: source, Mark: key}] = false
	}
	for text := range strings.SplitSeq(listed, ",") {
		if text == "" {
			continue
		}
		key, err := uuid.Parse(text)
		if err != nil {
			return fmt.Errorf("read the marks: %w", err)
		}
		m.left[ledger.Identity{Source: source, Mark: key}] = true
	}
	return nil
}

// seenAgainFor is how long batches are marked with ON CONFLICT once one of them held a message that
// was seen before: those come in runs, and each failure is a line in the log of the server.
const seenAgainFor = time.Minute

// expectsNew reports whether a batch is taken to hold nothing that was seen before.
func (i *Inbox[TTx]) expectsNew() bool { return time.Now().UnixNano() >= i.seenUntil.Load() }
