package parking

import (
	"time"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topics"
)

// pieces bounds how many bytes for one topic go into one transaction. A topic may take smaller
// batches than it is known to: its limit may not be read, or was changed under way, or the brokers
// say otherwise. A page is then published in pieces, each a transaction. A piece has one record at
// least, so halving it ends with a record that was sent alone: no row is given up for the size of a
// batch. It belongs to the publisher of a pipeline.
type pieces struct {
	topics *topics.Registry
	small  map[string]piece
	filled map[string]int // bytes of the piece in hand; nil if no topic is bounded
	sent   int            // records of the piece in hand
	alone  bool           // it is a record that goes alone
}

type piece struct {
	bytes int
	until time.Time
}

// pieceFor is how long a bound that was found by trying holds; a person may have raised the limit
// since.
const pieceFor = 10 * time.Minute

func newPieces(topics *topics.Registry) *pieces {
	return &pieces{topics: topics, small: make(map[string]piece)}
}

// whole reports whether a page needs no pieces.
func (p *pieces) whole(page *outboxread.Page) bool {
	return len(p.small) == 0 && (page.Bytes <= topics.DefaultBatchBytes || !p.topics.SomeUnlimited())
}

// begin is called before the first record of a piece.
func (p *pieces) begin(page *outboxread.Page) {
	p.filled, p.sent, p.alone = nil, 0, false
	if !p.whole(page) {
		p.filled = make(map[string]int)
	}
}

// ends reports whether the piece ends before the record at a place. If not, the record is one of
// it.
func (p *pieces) ends(page *outboxread.Page, i int) bool {
	large := page.IsLarge(i)
	if p.alone || p.sent > 0 && large || p.outgrows(page.Records[i].Topic, page.Size(i)) {
		return true
	}
	p.sent, p.alone = p.sent+1, large
	return false
}

// outgrows reports whether the piece would be too large with one more record of that size.
func (p *pieces) outgrows(topic string, bytes int) bool {
	if p.filled == nil {
		return false
	}
	filled := p.filled[topic]
	p.filled[topic] = filled + bytes
	return filled > 0 && filled+bytes > p.bound(topic)
}

// bound is how many bytes for the topic a piece has at most, unless they are a single record.
func (p *pieces) bound(topic string) int {
	if small, ok := p.small[topic]; ok {
		if time.Now().Before(small.until) {
			return small.bytes
		}
		delete(p.small, topic)
	}
	if known, ok := p.topics.Known(topic); ok && known.MaxBytes == 0 {
		return topics.DefaultBatchBytes
	}
	return topics.MaxRecordBytes
}

// halve is told that a topic has refused records together, of that many bytes, which it takes one
// by one.
func (p *pieces) halve(topic string, bytes int) {
	p.small[topic] = piece{max(1, min(bytes, p.bound(topic))/2), time.Now().Add(pieceFor)}
}

// atMost is told a limit that is smaller than what the producers use. It reports whether that
// changes anything.
func (p *pieces) atMost(topic string, limit int) bool {
	bytes := max(1, limit*3/4) // with room for what frames a record
	if p.bound(topic) <= bytes {
		return false
	}
	p.small[topic] = piece{bytes, time.Now().Add(pieceFor)}
	return true
}
