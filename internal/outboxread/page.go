package outboxread

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/position"
)

// The columns of a row as the reader selects them, in binary format.
const (
	colID = iota
	colMsgID
	colAggregateType
	colAggregateID
	colType
	colTopic
	colPayload
	colHeaders
	colCreatedAt
	colLarge // bytes of a payload that was not read, because it is larger than a page; null otherwise
	columns
)

const rowColumns = "id, msg_id, aggregate_type, aggregate_id, type, topic, payload, headers, created_at, large"

// Columns are rowColumns of a table. A payload that is larger than a page of so many bytes is not
// read: if it can be sent, it is read when its turn has come, and a row that can never be sent
// costs no memory here. To ask for its size does not read it.
func Columns(bytes int) string {
	most := wholePayload(bytes)
	size := fmt.Sprintf("octet_length(payload) > %d", most)
	return "id, msg_id, aggregate_type, aggregate_id, type, topic, CASE WHEN " + size + " THEN NULL ELSE payload END AS payload, " +
		"headers, created_at, CASE WHEN " + size + " THEN octet_length(payload) END AS large"
}

// wholePayload is the largest payload that is read with a page of so many bytes.
func wholePayload(bytes int) int { return max(bytes, 1<<20) }

// Behind them, reads of an outbox have the row's transaction, and a tail read the snapshot that it
// saw; reads of parked rows have the row's place.
const (
	colXactID   = columns
	colSnapshot = columns + 1
	colPlace    = columns
)

// The headers that the relay sets on every record.
const (
	HeaderMsgID         = "msg_id"
	headerSource        = "source"
	headerType          = "type"
	headerAggregateType = "aggregate_type"
	headerCreatedAt     = "created_at"
	headerContentType   = "content-type"
)

// ownHeaders is how many headers a record has at least; two of them are found by their places.
const (
	ownHeaders         = 6
	placeMsgID         = 0
	placeAggregateType = 3
)

// Page is what one Kafka transaction publishes: rows in the order of their ids, as records, and the
// progress after them. Its memory is used again once every record has been acknowledged.
type Page struct {
	Records []kgo.Record
	IDs     []int64
	Places  []int64           // of parked rows: their places in outbox_parked; none for rows of an outbox
	Faults  []Fault           // of rows that can never be sent, in their order; their records hold no more than key and type
	Window  position.Position // the window of the rows
	After   position.Position
	Bytes   int
	Largest int // bytes of the largest record
	large   []largeRow
	fetched int // place of the one large row whose payload is there, and 1; 0 for none
	Oldest  time.Time
	Created []int64   // created_at of each row, in microseconds since 1970
	Asked   time.Time // when the read was sent
	Read    time.Time // when all rows were there

	arena   []byte // keys, values and header values; grown by blocks, so that slices into it stay valid
	headers []kgo.RecordHeader
}

// RowKey tells a row from all others. The id alone does not: TRUNCATE … RESTART IDENTITY gives it a
// second time.
type RowKey struct {
	ID    int64
	MsgID string
}

// Key returns the identity of the row at a place.
func (p *Page) Key(i int) RowKey {
	return RowKey{p.IDs[i], string(p.Records[i].Headers[placeMsgID].Value)}
}

// addPlace notes the place of the parked row that was added last.
func (p *Page) addPlace(values [][]byte) error {
	if len(values) <= colPlace || len(values[colPlace]) != 8 {
		return errShape
	}
	p.Places = append(p.Places, int64(binary.BigEndian.Uint64(values[colPlace])))
	return nil
}

// Fault says that the row at a place of its page can never be sent.
type Fault struct {
	At  int
	Err error
}

// largeRow says that the payload of the row at a place was not read, and how many bytes it has.
type largeRow struct{ at, bytes int }

// Size is how many bytes the record at a place has, also if its payload was not read.
func (p *Page) Size(i int) int {
	n := RecordBytes(&p.Records[i])
	if len(p.large) > 0 && p.fetched != i+1 {
		n += p.Unread(i)
	}
	return n
}

// Unread is how many bytes of the payload at a place were not read with the page.
func (p *Page) Unread(i int) int {
	at, found := slices.BinarySearchFunc(p.large, i, func(l largeRow, i int) int { return l.at - i })
	if !found {
		return 0
	}
	return p.large[at].bytes
}

// HasLarge reports whether any row goes alone.
func (p *Page) HasLarge() bool { return len(p.large) > 0 }

// IsLarge reports whether the row at a place goes alone.
func (p *Page) IsLarge(i int) bool { return len(p.large) > 0 && p.Unread(i) > 0 }

// Fetch puts the payload of a large row in its place.
func (p *Page) Fetch(i int, payload []byte) {
	p.Release()
	p.Records[i].Value, p.fetched = payload, i+1
	p.Bytes += len(payload)
}

// Fetched reports whether the payload of the large row at a place is there.
func (p *Page) Fetched(i int) bool { return p.fetched == i+1 }

// Release gives the payload of a large row back, once its record has been acknowledged.
func (p *Page) Release() {
	if p.fetched > 0 {
		record := &p.Records[p.fetched-1]
		p.Bytes -= len(record.Value)
		record.Value, p.fetched = nil, 0
	}
}

// keptHeaders bounds what a page keeps of the headers that rows made it grow by.
const keptHeaders = 1 << 18

// arenaBlock is the size of the blocks that page memory grows by.
const arenaBlock = 256 << 10

func (p *Page) reset() {
	clear(p.Records)
	if cap(p.headers) > keptHeaders {
		p.headers = nil
	}
	p.large, p.fetched = p.large[:0], 0
	clear(p.headers)
	p.Places, p.Created = p.Places[:0], p.Created[:0]
	p.Records, p.IDs, p.Faults, p.headers, p.arena = p.Records[:0], p.IDs[:0], p.Faults[:0], p.headers[:0], p.arena[:0]
	p.Window, p.After, p.Bytes, p.Largest = position.Position{}, position.Position{}, 0, 0
	p.Oldest, p.Asked, p.Read = time.Time{}, time.Time{}, time.Time{}
}

// keep copies b into the page. A nil b stays nil.
func (p *Page) keep(b []byte) []byte {
	switch {
	case b == nil:
		return nil // a tombstone, which an empty payload is not
	case len(b) == 0:
		return []byte{}
	}
	start := p.reserve(len(b))
	p.arena = append(p.arena, b...)
	return p.arena[start:len(p.arena):len(p.arena)]
}

// reserve makes room for n bytes without moving what earlier slices point to, and returns where
// they start.
func (p *Page) reserve(n int) int {
	if cap(p.arena)-len(p.arena) < n {
		p.arena = make([]byte, 0, max(n, arenaBlock, min(2*cap(p.arena), 8<<20)))
	}
	return len(p.arena)
}

func (p *Page) keepHeaders(n int) []kgo.RecordHeader {
	if cap(p.headers)-len(p.headers) < n {
		p.headers = make([]kgo.RecordHeader, 0, max(n, 2*cap(p.headers), 1024))
	}
	start := len(p.headers)
	p.headers = p.headers[:start+n]
	return p.headers[start : start+n : start+n]
}

// AggregateKey appends what tells an aggregate from all others; no text in Postgres holds a zero
// byte.
func AggregateKey(dst []byte, aggregateType, aggregateID []byte) []byte {
	return append(append(append(dst, aggregateType...), 0), aggregateID...)
}

// AggregateOf appends the key of a record's aggregate.
func AggregateOf(dst []byte, r *kgo.Record) []byte {
	return AggregateKey(dst, r.Headers[placeAggregateType].Value, r.Key)
}

// RecordBytes is how many bytes of key, value and headers a record has.
func RecordBytes(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// pgEpoch is the zero of timestamptz: microseconds are counted from it.
var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func pgTime(b []byte) time.Time {
	micros := int64(binary.BigEndian.Uint64(b))
	return time.UnixMicro(pgEpoch.UnixMicro() + micros).UTC()
}

func appendUUID(dst, b []byte) []byte {
	for i, part := range [][]byte{b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}
