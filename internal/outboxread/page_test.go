package outboxread

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/topicname"
)

var (
	rowMsgID   = uuid.MustParse("0190f3a4-7b1c-7def-8123-456789abcdef")
	rowCreated = time.Date(2026, 3, 4, 5, 6, 7, 89_012_000, time.UTC)
)

// binaryRow is a row in Postgres's binary format, as the reader gets it. A change may replace
// columns.
func binaryRow(id int64, change func(values [][]byte)) [][]byte {
	values := make([][]byte, columns)
	values[colID] = binary.BigEndian.AppendUint64(nil, uint64(id))
	values[colMsgID] = slices.Clone(rowMsgID[:])
	values[colAggregateType] = []byte("order")
	values[colAggregateID] = []byte("o-1")
	values[colType] = []byte("OrderPlaced")
	values[colPayload] = []byte(`{"n":1}`)
	values[colCreatedAt] = binary.BigEndian.AppendUint64(nil, uint64(rowCreated.UnixMicro()-pgEpoch.UnixMicro()))
	if change != nil {
		change(values)
	}
	return values
}

func with(column int, value []byte) func([][]byte) {
	return func(values [][]byte) { values[column] = value }
}

func withHeaders(text string) func([][]byte) { return with(colHeaders, append([]byte{1}, text...)) }

func decoder() *Decoder { return NewDecoder(records) }

// record decodes one row that can be sent.
func record(t testing.TB, change func([][]byte)) *kgo.Record {
	t.Helper()
	p := &Page{}
	if err := decoder().add(p, binaryRow(7, change)); err != nil {
		t.Fatal(err)
	}
	return &p.Records[0]
}

func headerList(r *kgo.Record) []string {
	var list []string
	for _, h := range r.Headers {
		list = append(list, h.Key+"="+string(h.Value))
	}
	return list
}

var defaultHeaders = []string{
	"msg_id=0190f3a4-7b1c-7def-8123-456789abcdef", "source=app", "type=OrderPlaced", "aggregate_type=order",
	"content-type=application/json", "created_at=2026-03-04T05:06:07.089012Z",
}

func TestARowBecomesARecord(t *testing.T) {
	r := record(t, nil)
	if r.Topic != "outbox.event.order" || string(r.Key) != "o-1" || string(r.Value) != `{"n":1}` || !slices.Equal(headerList(r), defaultHeaders) {
		t.Errorf("%s %s %s %q", r.Topic, r.Key, r.Value, headerList(r))
	}
	if !r.Timestamp.IsZero() {
		t.Error("the record has another time: it must be that of relaying")
	}
}

func TestPayloadNullIsATombstoneAndEmptyIsNot(t *testing.T) {
	if r := record(t, with(colPayload, nil)); r.Value != nil {
		t.Errorf("NULL becomes %q", r.Value)
	}
	if r := record(t, with(colPayload, []byte{})); r.Value == nil || len(r.Value) != 0 {
		t.Errorf("an empty payload becomes %v", r.Value)
	}
	// Also where the page's memory is used already, and where it is just full.
	p, d := &Page{arena: make([]byte, 3)}, decoder()
	for _, payload := range [][]byte{{}, nil, {}} {
		if err := d.add(p, binaryRow(1, with(colPayload, payload))); err != nil {
			t.Fatal(err)
		}
		if got := p.Records[len(p.Records)-1].Value; (got == nil) != (payload == nil) {
			t.Errorf("%v becomes %v", payload, got)
		}
	}
}

func TestTopicOfARow(t *testing.T) {
	if r := record(t, with(colTopic, []byte("shipping"))); r.Topic != "shipping" {
		t.Errorf("its own topic becomes %s", r.Topic)
	}
	if r := record(t, with(colAggregateType, []byte("invoice"))); r.Topic != "outbox.event.invoice" {
		t.Errorf("routed to %s", r.Topic)
	}
	for _, c := range []struct {
		change func([][]byte)
		says   string
	}{
		{with(colTopic, []byte("a b")), "character"},
		{with(colTopic, []byte("")), "empty"},
		{with(colTopic, []byte("..")), ".."},
		{with(colTopic, bytes.Repeat([]byte("x"), 250)), "250"},
		{with(colAggregateType, []byte("заказ")), "character"},
		{with(colAggregateType, bytes.Repeat([]byte("x"), 240)), "253"},
		{with(colTopic, []byte("relay.app.checkpoints")), "relay's own"},
	} {
		p := &Page{}
		if err := decoder().add(p, binaryRow(7, c.change)); err != nil {
			t.Fatal(err)
		}
		if len(p.Faults) != 1 || !strings.Contains(p.Faults[0].Err.Error(), c.says) || p.IDs[0] != 7 {
			t.Errorf("want a fault of row 7 that says %q, got %+v", c.says, p.Faults)
		}
		if id := string(p.Records[0].Headers[placeMsgID].Value); id != rowMsgID.String() {
			t.Errorf("the place of the row is that of %s", id)
		}
	}
}

func TestHeadersOfARow(t *testing.T) {
	own := func(list ...string) []string { return append(slices.Clone(defaultHeaders), list...) }
	for text, want := range map[string][]string{
		`{}`:                            defaultHeaders,
		`null`:                          defaultHeaders,
		`{"b": "2", "a": "1"}`:          own("a=1", "b=2"),
		`{"n": 1.50, "t": true}`:        own("n=1.50", "t=true"),
		`{"big": 12345678901234567890}`: own("big=12345678901234567890"),
		`{"empty": ""}`:                 own("empty="),
		`{"u": "\u00e4\"\n"}`:           own("u=ä\"\n"),
		`{"msg_id":"x","source":"x","type":"x","aggregate_type":"x","created_at":"x","k":"v"}`: own("k=v"),
		`{"source": "\u0078"}`: defaultHeaders,
		`{"traceparent": "00-4bf9-00f0-01", "tracestate": "a=b"}`: own("traceparent=00-4bf9-00f0-01", "tracestate=a=b"),
	} {
		if got := headerList(record(t, withHeaders(text))); !slices.Equal(got, want) {
			t.Errorf("%s: headers %q, want %q", text, got, want)
		}
	}
	got := headerList(record(t, withHeaders(`{"content-type": "text/plain", "k": "v"}`)))
	if want := "content-type=text/plain"; !slices.Contains(got, want) || slices.Contains(got, "content-type=application/json") || len(got) != ownHeaders+1 {
		t.Errorf("the content type of the row: %q", got)
	}
}

func TestHeadersThatCannotBeSent(t *testing.T) {
	for _, column := range [][]byte{
		{}, {1}, {2, '{', '}'}, []byte("{}"), []byte("\x01[]"), []byte("\x01\"x\""), []byte("\x011"), []byte("\x01{"), []byte(`` + "\x01" + `{"a":null}`),
		[]byte("\x01" + `{"a":{}}`), []byte("\x01" + `{"a":[1]}`), []byte("\x01" + `{"":"x"}`),
	} {
		p := &Page{}
		if err := decoder().add(p, binaryRow(7, with(colHeaders, column))); err != nil {
			t.Fatal(err)
		}
		if len(p.Faults) != 1 || p.Faults[0].At != 0 || !strings.Contains(p.Faults[0].Err.Error(), "headers") {
			t.Errorf("%q: %+v", column, p.Faults)
		}
		if len(p.Records) != 1 || len(p.IDs) != 1 || p.Records[0].Value != nil || string(p.Records[0].Key) == "" {
			t.Errorf("%q: the row has no place in the page: %+v", column, p.Records)
		}
	}
}

func TestRowsOfAnotherShapeAreRefused(t *testing.T) {
	for name, values := range map[string][][]byte{
		"no columns":      nil,
		"a column less":   binaryRow(1, nil)[:columns-1],
		"a narrow id":     binaryRow(1, with(colID, make([]byte, 4))),
		"a null id":       binaryRow(1, with(colID, nil)),
		"a narrow msg_id": binaryRow(1, with(colMsgID, make([]byte, 15))),
		"a null time":     binaryRow(1, with(colCreatedAt, nil)),
	} {
		if err := decoder().add(&Page{}, values); !errors.Is(err, errShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPageKnowsItsOldestRowAndItsSize(t *testing.T) {
	p, d := &Page{}, decoder()
	at := func(offset time.Duration) []byte {
		return binary.BigEndian.AppendUint64(nil, uint64(rowCreated.Add(offset).UnixMicro()-pgEpoch.UnixMicro()))
	}
	size := 0
	for i, offset := range []time.Duration{0, -time.Hour, time.Hour} {
		if err := d.add(p, binaryRow(int64(i), with(colCreatedAt, at(offset)))); err != nil {
			t.Fatal(err)
		}
		size += RecordBytes(&p.Records[i])
	}
	if !p.Oldest.Equal(rowCreated.Add(-time.Hour)) || p.Bytes != size || !slices.Equal(p.IDs, []int64{0, 1, 2}) {
		t.Errorf("oldest %v, %d bytes (want %d), ids %v", p.Oldest, p.Bytes, size, p.IDs)
	}
}

// Records point into the page's memory: it grows without moving them.
func TestPageMemoryGrowsInPlace(t *testing.T) {
	p, d := &Page{}, decoder()
	fill := func(round int) {
		for i := range 4000 {
			payload := fmt.Appendf(nil, "%d/%d %s", round, i, strings.Repeat("x", i%300))
			if i%1000 == 999 {
				payload = append(payload, make([]byte, 2*arenaBlock)...)
			}
			change := func(values [][]byte) {
				values[colPayload], values[colAggregateID] = payload, fmt.Appendf(nil, "key %d", i)
				withHeaders(fmt.Sprintf(`{"n":"%d"}`, i))(values)
			}
			if err := d.add(p, binaryRow(int64(i), change)); err != nil {
				t.Fatal(err)
			}
			clear(payload) // the connection's buffer is not the page's to keep
		}
	}
	for round := range 3 {
		fill(round)
		for i := range p.Records {
			r := &p.Records[i]
			if want := fmt.Sprintf("%d/%d ", round, i); !bytes.HasPrefix(r.Value, make([]byte, len(want))) && !strings.HasPrefix(string(r.Value), want) {
				t.Fatalf("row %d of round %d has the value %.20q", i, round, r.Value)
			}
			if string(r.Key) != fmt.Sprintf("key %d", i) || len(r.Headers) != ownHeaders+1 || string(r.Headers[ownHeaders].Value) != fmt.Sprint(i) {
				t.Fatalf("row %d of round %d: key %q, headers %q", i, round, r.Key, headerList(r))
			}
			if i > 0 && len(r.Value) > 0 && cap(r.Value) != len(r.Value) {
				t.Fatalf("an append to the value of row %d would overwrite the next row", i)
			}
		}
		p.reset()
		if len(p.Records)+len(p.IDs)+len(p.headers)+len(p.arena)+p.Bytes != 0 || !p.Oldest.IsZero() || p.After.Open() {
			t.Fatalf("reset left %+v", p)
		}
	}
}

func TestAPageThatWasResetUsesItsMemoryAgain(t *testing.T) {
	p, d := &Page{}, decoder()
	rows := make([][][]byte, 1000)
	for i := range rows {
		rows[i] = binaryRow(int64(i), nil)
	}
	again := func() {
		p.reset()
		for _, row := range rows {
			if err := d.add(p, row); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 4 { // memory grows until one block of each kind holds a whole page
		again()
	}
	key, first, header := &p.Records[0].Key[0], &p.Records[0], &p.Records[0].Headers[0]
	again()
	if key != &p.Records[0].Key[0] || first != &p.Records[0] || header != &p.Records[0].Headers[0] {
		t.Error("a page that was reset does not use its memory again")
	}
	if allocs := testing.AllocsPerRun(5, again) / float64(len(rows)); allocs > 5 {
		t.Errorf("a row without headers allocates %v times", allocs)
	}
}

func TestStringsAreRememberedWithinBounds(t *testing.T) {
	t.Parallel()
	d, p := decoder(), &Page{}
	for i := range 3 * maxInterned {
		if err := d.add(p, binaryRow(1, with(colType, fmt.Appendf(nil, "type %d", i)))); err != nil {
			t.Fatal(err)
		}
		if got := string(p.Records[len(p.Records)-1].Headers[2].Value); got != fmt.Sprintf("type %d", i) {
			t.Fatalf("type %d became %q", i, got)
		}
		p.reset()
	}
	for i := range 3 * maxInterned {
		if err := d.add(p, binaryRow(1, with(colAggregateType, fmt.Appendf(nil, "t%d", i)))); err != nil {
			t.Fatal(err)
		}
		if got := p.Records[len(p.Records)-1].Topic; got != fmt.Sprintf("outbox.event.t%d", i) {
			t.Fatalf("aggregate type %d went to %q", i, got)
		}
		p.reset()
	}
	if len(d.strings) > maxInterned+1 {
		t.Errorf("%d strings are remembered", len(d.strings))
	}
}

func FuzzRowDecoder(f *testing.F) {
	f.Add([]byte("order"), []byte("o-1"), []byte("T"), []byte("topic"), []byte("payload"), []byte("\x01{\"a\":\"b\"}"), []byte("12345678"), uint16(0))
	f.Add([]byte(""), []byte(""), []byte(""), []byte(".."), []byte(""), []byte("\x01{\"content-type\":1}"), []byte("\xff\xff\xff\xff\xff\xff\xff\xff"), uint16(1<<colTopic))
	f.Add([]byte("a"), []byte("k"), []byte("t"), []byte(""), []byte(""), []byte{}, []byte("1"), uint16(1<<colTopic|1<<colHeaders|1<<colPayload))
	f.Fuzz(func(t *testing.T, aggregateType, key, typ, topic, payload, headers, created []byte, nulls uint16) {
		if len(key) == 0 {
			key = []byte("k") // the table refuses an empty one
		}
		values := binaryRow(9, nil)
		for column, value := range map[int][]byte{
			colAggregateType: aggregateType, colAggregateID: key, colType: typ, colTopic: topic, colPayload: payload, colHeaders: headers, colCreatedAt: created,
		} {
			if values[column] = value; column != colAggregateID && nulls&(1<<column) != 0 {
				values[column] = nil
			}
		}
		p, d := &Page{}, decoder()
		if err := d.add(p, values); err != nil {
			if len(p.Records)+len(p.IDs)+p.Bytes != 0 {
				t.Fatalf("%v, and the page was changed", err)
			}
			return
		}
		r := &p.Records[0]
		if len(p.Faults) > 0 {
			if r.Value != nil || !bytes.Equal(r.Key, values[colAggregateID]) || len(r.Headers) != ownHeaders {
				t.Fatalf("the place of a row that cannot be sent is %+v", r)
			}
			return
		}
		if !bytes.Equal(r.Key, values[colAggregateID]) || !bytes.Equal(r.Value, values[colPayload]) || (r.Value == nil) != (values[colPayload] == nil) {
			t.Fatalf("key %q value %q", r.Key, r.Value)
		}
		if topicname.Check(r.Topic) != nil || topicname.Reserved(r.Topic) || len(r.Headers) < ownHeaders || p.Bytes != RecordBytes(r) {
			t.Fatalf("record %+v", r)
		}
		seen := make(map[string]bool)
		for _, h := range r.Headers {
			if h.Key == "" || seen[h.Key] {
				t.Fatalf("header %q is empty or there twice", h.Key)
			}
			seen[h.Key] = true
		}
	})
}

func BenchmarkRowDecoder(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 200)
	for name, change := range map[string]func([][]byte){
		"plain":   with(colPayload, payload),
		"headers": func(v [][]byte) { v[colPayload] = payload; withHeaders(`{"traceparent":"00-4bf9-00f0-01"}`)(v) },
	} {
		b.Run(name, func(b *testing.B) {
			p, d, row := &Page{}, decoder(), binaryRow(1, change)
			b.ReportAllocs()
			b.SetBytes(int64(rowSize(row)))
			for i := 0; b.Loop(); i++ {
				if i%5000 == 0 {
					p.reset()
				}
				if err := d.add(p, row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
