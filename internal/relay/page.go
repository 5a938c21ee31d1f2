package relay

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/brief"
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

// tableColumns are rowColumns of a table. A payload of more bytes than most is not read: where it can be sent, it is read when
// its turn has come, and a row that can never be sent costs no memory here. To ask for its size does not read it.
func tableColumns(most int) string {
	size := fmt.Sprintf("octet_length(payload) > %d", most)
	return "id, msg_id, aggregate_type, aggregate_id, type, topic, CASE WHEN " + size + " THEN NULL ELSE payload END AS payload, " +
		"headers, created_at, CASE WHEN " + size + " THEN octet_length(payload) END AS large"
}

// wholePayload is the largest payload that is read with its page.
func wholePayload(cfg *Config) int { return max(cfg.BatchBytes, 1<<20) }

// Behind them, reads of an outbox have the row's transaction, and a tail read the snapshot that it saw; reads of parked rows have
// the row's place.
const (
	colXactID   = columns
	colSnapshot = columns + 1
	colPlace    = columns
)

// The headers that the relay sets on every record.
const (
	headerMsgID         = "msg_id"
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

// page is what one Kafka transaction publishes: rows in the order of their ids, as records, and the progress after them.
// Its memory is used again once every record has been acknowledged.
type page struct {
	records []kgo.Record
	ids     []int64
	places  []int64           // of parked rows: their places in outbox_parked; none for rows of an outbox
	faults  []rowFault        // of rows that can never be sent, in their order; their records hold no more than key and type
	window  position.Position // the window of the rows
	after   position.Position
	bytes   int
	largest int // bytes of the largest record
	large   []largeRow
	fetched int // place of the one large row whose payload is there, and 1; 0 for none
	oldest  time.Time

	arena   []byte // keys, values and header values; grown by blocks, so that slices into it stay valid
	headers []kgo.RecordHeader
}

// rowKey tells a row from all others. The id alone does not: TRUNCATE … RESTART IDENTITY gives it a second time.
type rowKey struct {
	id    int64
	msgID string
}

// key returns the identity of the row at a place.
func (p *page) key(i int) rowKey {
	return rowKey{p.ids[i], string(p.records[i].Headers[placeMsgID].Value)}
}

// addPlace notes the place of the parked row that was added last.
func (p *page) addPlace(values [][]byte) error {
	if len(values) <= colPlace || len(values[colPlace]) != 8 {
		return errShape
	}
	p.places = append(p.places, int64(binary.BigEndian.Uint64(values[colPlace])))
	return nil
}

// rowFault says that the row at a place of its page can never be sent.
type rowFault struct {
	at  int
	err error
}

// largeRow says that the payload of the row at a place was not read, and how many bytes it has.
type largeRow struct{ at, bytes int }

// size is how many bytes the record at a place has, also if its payload was not read.
func (p *page) size(i int) int {
	n := recordBytes(&p.records[i])
	if len(p.large) > 0 && p.fetched != i+1 {
		n += p.unread(i)
	}
	return n
}

// unread is how many bytes of the payload at a place were not read with the page.
func (p *page) unread(i int) int {
	at, found := slices.BinarySearchFunc(p.large, i, func(l largeRow, i int) int { return l.at - i })
	if !found {
		return 0
	}
	return p.large[at].bytes
}

// isLarge reports whether the row at a place goes alone.
func (p *page) isLarge(i int) bool { return len(p.large) > 0 && p.unread(i) > 0 }

// fetch puts the payload of a large row in its place.
func (p *page) fetch(i int, payload []byte) {
	p.release()
	p.records[i].Value, p.fetched = payload, i+1
	p.bytes += len(payload)
}

// release gives the payload of a large row back, once its record has been acknowledged.
func (p *page) release() {
	if p.fetched > 0 {
		record := &p.records[p.fetched-1]
		p.bytes -= len(record.Value)
		record.Value, p.fetched = nil, 0
	}
}

// keptHeaders bounds what a page keeps of the headers that rows made it grow by.
const keptHeaders = 1 << 18

// arenaBlock is the size of the blocks that page memory grows by.
const arenaBlock = 256 << 10

func (p *page) reset() {
	clear(p.records)
	if cap(p.headers) > keptHeaders {
		p.headers = nil
	}
	p.large, p.fetched = p.large[:0], 0
	clear(p.headers)
	p.places = p.places[:0]
	p.records, p.ids, p.faults, p.headers, p.arena = p.records[:0], p.ids[:0], p.faults[:0], p.headers[:0], p.arena[:0]
	p.window, p.after, p.bytes, p.largest, p.oldest = position.Position{}, position.Position{}, 0, 0, time.Time{}
}

// keep copies b into the page. A nil b stays nil.
func (p *page) keep(b []byte) []byte {
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

// reserve makes room for n bytes without moving what earlier slices point to, and returns where they start.
func (p *page) reserve(n int) int {
	if cap(p.arena)-len(p.arena) < n {
		p.arena = make([]byte, 0, max(n, arenaBlock, min(2*cap(p.arena), 8<<20)))
	}
	return len(p.arena)
}

func (p *page) keepHeaders(n int) []kgo.RecordHeader {
	if cap(p.headers)-len(p.headers) < n {
		p.headers = make([]kgo.RecordHeader, 0, max(n, 2*cap(p.headers), 1024))
	}
	start := len(p.headers)
	p.headers = p.headers[:start+n]
	return p.headers[start : start+n : start+n]
}

// rowDecoder turns rows into records. Types, topics and aggregate types repeat, so their strings are made once.
type rowDecoder struct {
	route       string
	allowed     []string // patterns of topics that a row may name
	source      []byte
	contentType []byte
	strings     map[string]internedString
	routes      map[string]destination // by aggregate type
	named       map[string]destination // by the column topic
	own         []ownHeader            // of the row in hand
}

// destination is a topic, and why no row can go there.
type destination struct {
	topic string
	fault error
}

type internedString struct {
	text  string
	bytes []byte
}

// maxInterned and longestInterned bound the strings remembered: a writer may put an identity into a type, or a book.
const (
	maxInterned     = 10_000
	longestInterned = 256
)

func newRowDecoder(cfg *Config) *rowDecoder {
	return &rowDecoder{
		route: cfg.Route, allowed: cfg.allowedTopics(), source: []byte(cfg.Name), contentType: []byte(cfg.ContentType),
		strings: make(map[string]internedString), routes: make(map[string]destination), named: make(map[string]destination),
	}
}

func (d *rowDecoder) intern(b []byte) internedString {
	if s, ok := d.strings[string(b)]; ok {
		return s
	}
	s := internedString{text: string(b)}
	s.bytes = []byte(s.text)
	remember(d.strings, s.text, s)
	return s
}

// remember keeps a value that was made for a string of a row, unless the string is long.
func remember[T any](in map[string]T, key string, value T) {
	if len(key) > longestInterned {
		return
	}
	if len(in) >= maxInterned {
		clear(in)
	}
	in[key] = value
}

// routed returns the topic of an aggregate type.
func (d *rowDecoder) routed(aggregateType string) string { return d.routeOf(aggregateType).topic }

// routeOf returns where rows of an aggregate type go that name no topic.
func (d *rowDecoder) routeOf(aggregateType string) destination {
	if to, ok := d.routes[aggregateType]; ok {
		return to
	}
	to := destination{topic: strings.ReplaceAll(d.route, routePlaceholder, aggregateType)}
	to.fault = checkTopic(to.topic)
	if to.fault == nil && reservedTopic(to.topic) {
		to.fault = errReservedTopic
	}
	to.topic = brief.Cut(to.topic, longestInterned)
	remember(d.routes, aggregateType, to)
	return to
}

// namedBy returns where a row goes that names a topic.
func (d *rowDecoder) namedBy(column []byte) destination {
	if to, ok := d.named[string(column)]; ok {
		return to
	}
	topic := string(column)
	to := destination{brief.Cut(topic, longestInterned), checkNamed(topic, d.allowed)}
	remember(d.named, topic, to)
	return to
}

// errShape says that a row did not have the columns or widths that the query names.
var errShape = errors.New("unexpected shape of a row; is the table an outbox of this version? Run relay migrate status")

// add appends a row. A row that can never be sent is among the faults of the page.
func (d *rowDecoder) add(p *page, values [][]byte) error {
	if len(values) < columns || len(values[colID]) != 8 || len(values[colMsgID]) != 16 || len(values[colCreatedAt]) != 8 {
		return errShape
	}
	id := int64(binary.BigEndian.Uint64(values[colID]))
	aggregateType := d.intern(values[colAggregateType])
	var to destination
	if values[colTopic] != nil {
		to = d.namedBy(values[colTopic])
	} else {
		to = d.routeOf(aggregateType.text)
	}
	fault := to.fault
	var own []ownHeader
	var contentType []byte
	if fault == nil {
		own, contentType, fault = d.ownHeaders(values[colHeaders])
	}
	created := pgTime(values[colCreatedAt])
	record := kgo.Record{Topic: to.topic, Key: p.keep(values[colAggregateID])}
	if fault == nil {
		record.Value = p.keep(values[colPayload])
	} else {
		own, contentType = nil, nil
		p.faults = append(p.faults, rowFault{len(p.records), fault})
	}
	record.Headers = d.headers(p, values, aggregateType, created, own, contentType)
	size := recordBytes(&record)
	p.bytes += size
	if large := values[colLarge]; len(large) == 4 && fault == nil {
		unread := int(binary.BigEndian.Uint32(large))
		p.large = append(p.large, largeRow{len(p.records), unread})
		size += unread
	}
	p.largest = max(p.largest, size)
	p.records = append(p.records, record)
	p.ids = append(p.ids, id)
	if p.oldest.IsZero() || created.Before(p.oldest) {
		p.oldest = created
	}
	return nil
}

// aggregateKey appends what tells an aggregate from all others; no text in Postgres holds a zero byte.
func aggregateKey(dst []byte, aggregateType, aggregateID []byte) []byte {
	return append(append(append(dst, aggregateType...), 0), aggregateID...)
}

// aggregateOf appends the key of a record's aggregate.
func aggregateOf(dst []byte, r *kgo.Record) []byte {
	return aggregateKey(dst, r.Headers[placeAggregateType].Value, r.Key)
}

func (d *rowDecoder) headers(
	p *page, values [][]byte, aggregateType internedString, created time.Time, own []ownHeader, contentType []byte,
) []kgo.RecordHeader {
	if contentType == nil {
		contentType = d.contentType
	} else {
		contentType = p.keep(contentType)
	}
	start := p.reserve(36 + len(time.RFC3339Nano))
	p.arena = appendUUID(p.arena, values[colMsgID])
	msgID := p.arena[start:len(p.arena):len(p.arena)]
	start = len(p.arena)
	p.arena = created.AppendFormat(p.arena, time.RFC3339Nano)
	createdAt := p.arena[start:len(p.arena):len(p.arena)]

	headers := p.keepHeaders(ownHeaders + len(own))
	headers[placeMsgID] = kgo.RecordHeader{Key: headerMsgID, Value: msgID}
	headers[1] = kgo.RecordHeader{Key: headerSource, Value: d.source}
	headers[2] = kgo.RecordHeader{Key: headerType, Value: d.intern(values[colType]).bytes}
	headers[placeAggregateType] = kgo.RecordHeader{Key: headerAggregateType, Value: aggregateType.bytes}
	headers[4] = kgo.RecordHeader{Key: headerContentType, Value: contentType}
	headers[5] = kgo.RecordHeader{Key: headerCreatedAt, Value: createdAt}
	for i, h := range own {
		headers[ownHeaders+i] = kgo.RecordHeader{Key: h.name, Value: p.keep(h.value)}
	}
	return headers
}

// decodeHeaders reads the headers column: jsonb in binary format is a version byte and the text. Values must be strings;
// numbers and booleans are taken by their JSON text.
func decodeHeaders(b []byte) (map[string]string, error) {
	if len(b) == 0 || b[0] != 1 {
		return nil, fmt.Errorf("headers: unknown version of jsonb")
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b[1:], &raw); err != nil {
		return nil, fmt.Errorf("headers: not a JSON object: %w", err)
	}
	headers := make(map[string]string, len(raw))
	for name, value := range raw {
		switch {
		case name == "":
			return nil, errors.New("headers: a name is empty")
		case value[0] == '"':
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, fmt.Errorf("headers: %q: %w", name, err)
			}
			headers[name] = text
		case value[0] == '{' || value[0] == '[' || value[0] == 'n':
			return nil, fmt.Errorf("headers: the value of %q is neither a string nor a number nor a boolean", name)
		default:
			headers[name] = string(value)
		}
	}
	return headers, nil
}

func recordBytes(r *kgo.Record) int {
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
