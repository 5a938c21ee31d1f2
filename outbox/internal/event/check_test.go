package event

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

var rules = Rules{MaxBytes: 1_000_000, Route: "outbox.event.{aggregate_type}"}

func valid() Message {
	return Message{AggregateType: "order", AggregateID: "42", Type: "OrderPlaced", Payload: []byte(`{}`)}
}

// one checks a message that change has changed, and returns its faults as "Field reason".
func one(change func(*Message)) []string {
	m := valid()
	change(&m)
	var lines []string
	for _, f := range Check(rules, []Message{m}) {
		lines = append(lines, f.Field+" "+f.Reason)
	}
	return lines
}

func TestCheckAcceptsWhatKafkaAndPostgresTake(t *testing.T) {
	for name, change := range map[string]func(*Message){
		"plain":              func(*Message) {},
		"tombstone":          func(m *Message) { m.Payload = nil },
		"empty payload":      func(m *Message) { m.Payload = []byte{} },
		"binary payload":     func(m *Message) { m.Payload = []byte{0, 0xff, 0x80} },
		"key of any text":    func(m *Message) { m.AggregateID = "ключ / 鍵 \t\n🚀" },
		"longest key":        func(m *Message) { m.AggregateID = strings.Repeat("k", 1024) },
		"longest type":       func(m *Message) { m.Type = strings.Repeat("t", 255) },
		"longest route":      func(m *Message) { m.AggregateType = strings.Repeat("a", 249-len("outbox.event.")) },
		"topic frees type":   func(m *Message) { m.Topic, m.AggregateType = "a.b-c_D9", "Order Line / Ü" },
		"longest topic":      func(m *Message) { m.Topic = strings.Repeat("t", 249) },
		"own headers":        func(m *Message) { m.Headers = map[string]string{"content-type": "a", "traceparent": "", "Type": "x"} },
		"id of the caller":   func(m *Message) { m.ID = uuid.MustParse("00000000-0000-4000-8000-000000000001") },
		"exactly the limit":  func(m *Message) { m.Payload = make([]byte, 1_000_000-len("42orderOrderPlaced")) },
		"no headers, no nil": func(m *Message) { m.Headers = map[string]string{} },
	} {
		if faults := one(change); faults != nil {
			t.Errorf("%s: %q", name, faults)
		}
	}
}

func TestCheckNamesTheFault(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Message)
		want   string
	}{
		"no aggregate type":    {func(m *Message) { m.AggregateType = "" }, "AggregateType is empty"},
		"no key":               {func(m *Message) { m.AggregateID = "" }, "AggregateID is empty"},
		"no type":              {func(m *Message) { m.Type = "" }, "Type is empty"},
		"long aggregate type":  {func(m *Message) { m.Topic, m.AggregateType = "t", strings.Repeat("a", 256) }, "AggregateType is 256 bytes long; the limit is 255"},
		"long key":             {func(m *Message) { m.AggregateID = strings.Repeat("k", 1025) }, "AggregateID is 1025 bytes long; the limit is 1024"},
		"long type":            {func(m *Message) { m.Type = strings.Repeat("t", 256) }, "Type is 256 bytes long; the limit is 255"},
		"NUL in the key":       {func(m *Message) { m.AggregateID = "a\x00" }, "AggregateID holds a NUL character, which Postgres cannot store"},
		"bad UTF-8 in a type":  {func(m *Message) { m.Type = "\xff" }, "Type is not valid UTF-8"},
		"dot topic":            {func(m *Message) { m.Topic = ".." }, `Topic is "..", which Kafka refuses`},
		"long topic":           {func(m *Message) { m.Topic = strings.Repeat("t", 250) }, "Topic is 250 characters long; Kafka allows 249"},
		"topic with a slash":   {func(m *Message) { m.Topic = "a/b" }, `Topic has the character '/'; Kafka allows letters, digits, '.', '_' and '-'`},
		"topic of bad UTF-8":   {func(m *Message) { m.Topic = "a\xff" }, `Topic has the character '` + "\uFFFD" + `'; Kafka allows letters, digits, '.', '_' and '-'`},
		"type makes no topic":  {func(m *Message) { m.AggregateType = "Order Line" }, "AggregateType makes a topic of the route outbox.event.{aggregate_type} that has the character ' '"},
		"header without name":  {func(m *Message) { m.Headers = map[string]string{"": "v"} }, "Headers has an empty name"},
		"header msg_id":        {func(m *Message) { m.Headers = map[string]string{"msg_id": "v"} }, `Headers has the name "msg_id", which the relay sets itself`},
		"header source":        {func(m *Message) { m.Headers = map[string]string{"source": "v"} }, `Headers has the name "source", which the relay sets itself`},
		"header type":          {func(m *Message) { m.Headers = map[string]string{"type": "v"} }, `Headers has the name "type", which the relay sets itself`},
		"header aggregate":     {func(m *Message) { m.Headers = map[string]string{"aggregate_type": "v"} }, `Headers has the name "aggregate_type"`},
		"header created_at":    {func(m *Message) { m.Headers = map[string]string{"created_at": "v"} }, `Headers has the name "created_at"`},
		"long header name":     {func(m *Message) { m.Headers = map[string]string{strings.Repeat("h", 256): "v"} }, "Headers has a name of 256 bytes; the limit is 255"},
		"NUL in a header name": {func(m *Message) { m.Headers = map[string]string{"a\x00": "v"} }, `Headers has a name, "a\x00", that holds a NUL character`},
		"NUL in a value":       {func(m *Message) { m.Headers = map[string]string{"a": "\x00"} }, `Headers has a value, that of "a", that holds a NUL character`},
		"bad UTF-8 in a value": {func(m *Message) { m.Headers = map[string]string{"a": "secret\xff"} }, `Headers has a value, that of "a", that is not valid UTF-8`},
		"one byte too many":    {func(m *Message) { m.Payload = make([]byte, 1_000_001-len("42orderOrderPlaced")) }, "Size is 1000001 bytes of key, payload and headers; the limit is 1000000"},
		"large headers":        {func(m *Message) { m.Headers = map[string]string{"a": strings.Repeat("v", 65_528)} }, "Headers are 65537 bytes as JSON; the limit is 65536"},
	} {
		faults := one(c.change)
		if len(faults) != 1 || !strings.HasPrefix(faults[0], c.want) {
			t.Errorf("%s: got %q, want %q", name, faults, c.want)
		}
		if strings.Contains(strings.Join(faults, ""), "secret") {
			t.Errorf("%s: the fault repeats the value of a header: %q", name, faults)
		}
	}
}

func TestCheckRefusesTooManyHeaders(t *testing.T) {
	faults := one(func(m *Message) {
		m.Headers = make(map[string]string)
		for i := range 1001 {
			m.Headers["h"+string(rune('0'+i))] = ""
		}
	})
	if len(faults) != 1 || faults[0] != "Headers are 1001; the limit is 1000" {
		t.Errorf("got %q", faults)
	}
}

func TestCheckReportsEveryFaultOfEveryMessageInOrder(t *testing.T) {
	id := uuid.MustParse("00000000-0000-4000-8000-000000000001")
	good := valid()
	good.ID = id
	again := valid()
	again.ID = id
	again.Headers = map[string]string{"type": "", "": ""}
	faults := Check(rules, []Message{{}, good, again})
	want := []Fault{
		{0, "AggregateType", "is empty"},
		{0, "AggregateID", "is empty"},
		{0, "Type", "is empty"},
		{2, "ID", "is that of message 1 as well; consumers would drop the second"},
		{2, "Headers", "has an empty name"},
		{2, "Headers", `has the name "type", which the relay sets itself`},
	}
	if len(faults) != len(want) {
		t.Fatalf("got %v", faults)
	}
	for i := range want {
		if faults[i] != want[i] {
			t.Errorf("fault %d: %v, want %v", i, faults[i], want[i])
		}
	}
}

func TestCheckAggregate(t *testing.T) {
	if faults := CheckAggregate("Order Line", "42"); faults != nil {
		t.Errorf("a legal aggregate: %v", faults)
	}
	faults := CheckAggregate("", "a\x00b")
	if len(faults) != 2 || faults[0].Message != -1 || faults[0].Field != "AggregateType" || faults[1].Field != "AggregateID" {
		t.Errorf("got %v", faults)
	}
}

func TestCheckRulesReportsEveryFault(t *testing.T) {
	for _, route := range []string{"outbox.event.{aggregate_type}", "events", "{aggregate_type}"} {
		if reasons := checkRules(Rules{MaxBytes: 1, Route: route}); reasons != nil {
			t.Errorf("route %q: %q", route, reasons)
		}
	}
	for _, bad := range []Rules{{0, "a b"}, {-1, "{type}"}, {1 << 30, ".."}, {0, strings.Repeat("r", 250)}} {
		if reasons := checkRules(bad); len(reasons) != 2 {
			t.Errorf("%v: %q", bad, reasons)
		}
	}
}

// Whatever the message, Check ends, and what it lets pass has the properties that Postgres and
// Kafka ask for.
func FuzzCheck(f *testing.F) {
	f.Add("order", "42", "OrderPlaced", "", "content-type", "text/plain", []byte("{}"))
	f.Add("Order Line", "\x00", "\xff", "..", "msg_id", "\xc0\x80", []byte(nil))
	f.Fuzz(func(t *testing.T, aggregateType, aggregateID, eventType, topic, header, value string, payload []byte) {
		m := Message{
			AggregateType: aggregateType, AggregateID: aggregateID, Type: eventType, Topic: topic,
			Payload: payload, Headers: map[string]string{header: value},
		}
		if faults := Check(rules, []Message{m}); len(faults) > 0 {
			for _, fault := range faults {
				if fault.Field == "" || fault.Reason == "" || fault.Message != 0 {
					t.Fatalf("an unclear fault: %+v", fault)
				}
			}
			return
		}
		for _, text := range []string{aggregateType, aggregateID, eventType, header, value} {
			if strings.ToValidUTF8(text, "") != text || strings.Contains(text, "\x00") {
				t.Fatalf("%q passed", text)
			}
		}
		if aggregateType == "" || aggregateID == "" || eventType == "" || header == "" || header == "type" || m.size() > rules.MaxBytes {
			t.Fatalf("%+v passed", m)
		}
		if topic == "" {
			topic = strings.ReplaceAll(rules.Route, placeholder, aggregateType)
		}
		if strings.Trim(topic, ".") == "" && len(topic) < 3 || len(topic) > 249 || strings.ContainsAny(topic, " /\\\n:*,") {
			t.Fatalf("topic %q passed", topic)
		}
	})
}
