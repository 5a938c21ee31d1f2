package victim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"regexp"
	"strings"
	"sync"
)

// statement is what a message to Postgres is about, as far as failpoints care.
type statement int

const (
	other statement = iota
	accept
	commit
)

var (
	acceptText = regexp.MustCompile(`(?is)\binsert\s+into\s+(\S+\.)?"?inbox"?[\s(]`)
	commitText = regexp.MustCompile(`(?is)^\s*commit\b`)
)

func classify(text []byte) statement {
	switch {
	case acceptText.Match(text):
		return accept
	case commitText.Match(text):
		return commit
	default:
		return other
	}
}

var errCut = errors.New("cut by a failpoint")

// tap is a connection to Postgres that reads the protocol as it passes, so that failpoints hit
// between two messages, whichever way the library sends its statements.
type tap struct {
	net.Conn
	fail *failpoint

	mu       sync.Mutex
	started  bool                 // the first message, which has no type, was sent
	prepared map[string]statement // by the name of the prepared statement
	pending  bool                 // a mark was sent, and its answer is awaited
	accepted bool                 // a mark was sent in this transaction
	answer   answerScanner
}

// dial makes connections with taps, for pgconn.Config.DialFunc.
func (f *failpoint) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil || f == nil {
		return conn, err
	}
	return &tap{Conn: conn, fail: f, prepared: make(map[string]statement)}, nil
}

// Write passes on whole messages; the client never sends a part of one.
func (t *tap) Write(b []byte) (int, error) {
	rest := b
	for len(rest) > 0 {
		kind, body, size := t.message(rest)
		if point, found := t.sent(kind, body); found && t.fail.due(point) {
			if _, err := t.Conn.Write(b[:len(b)-len(rest)]); err != nil {
				return 0, err
			}
			if t.fail.act() {
				return 0, errors.Join(errCut, t.Close())
			}
		}
		rest = rest[size:]
	}
	return t.Conn.Write(b)
}

// message reads the first message of what is to be sent.
func (t *tap) message(b []byte) (kind byte, body []byte, size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.started {
		t.started = true
		return 0, nil, len(b)
	}
	const header = 5
	if len(b) < header {
		return 0, nil, len(b)
	}
	size = min(len(b), 1+int(binary.BigEndian.Uint32(b[1:header])))
	return b[0], b[header:size], size
}

// sent notes what a message is about, and returns the point that lies right before it.
func (t *tap) sent(kind byte, body []byte) (Point, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	about := other
	switch kind {
	case 'P': // Parse: name, text
		name, text, _ := bytes.Cut(body, []byte{0})
		t.prepared[string(name)] = classify(text)
	case 'B': // Bind: portal, name
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		about = t.prepared[string(name)]
	case 'Q':
		about = classify(body)
	}
	switch {
	case about == accept:
		t.pending, t.accepted = true, true
		return BeforeAccept, true
	case about == commit && t.accepted:
		return BeforeCommit, true
	}
	return "", false
}

// Read passes on what comes, after the points that lie before it was read.
func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	for _, point := range t.received(b[:n]) {
		if t.fail.due(point) && t.fail.act() {
			return 0, errors.Join(errCut, t.Close())
		}
	}
	return n, err
}

// received finds the points in what comes.
func (t *tap) received(b []byte) (points []Point) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer.scan(b, func(kind byte, tag string) {
		switch {
		case kind == 'Z' && t.pending:
			t.pending = false
			points = append(points, AfterAccept)
		case kind == 'C' && tag == "COMMIT" && t.accepted:
			t.accepted = false
			points = append(points, AfterCommit)
		case kind == 'C' && tag == "ROLLBACK":
			t.accepted = false
		}
	})
	return points
}

// answerScanner follows the messages of the server, which come in pieces of any size.
type answerScanner struct {
	head []byte // type, length and the first bytes of the message
	left int    // how many bytes of the message are to come after what is in head
}

// tagSize is how much of a message is kept: enough for the tags that matter.
const tagSize = 9

// scan calls each with every message that is complete.
func (s *answerScanner) scan(b []byte, each func(kind byte, tag string)) {
	const header = 5
	for len(b) > 0 {
		want := header
		if len(s.head) >= header {
			want = header + min(tagSize, s.size())
		}
		if missing := want - len(s.head); missing > 0 {
			n := min(missing, len(b))
			s.head, b = append(s.head, b[:n]...), b[n:]
			if len(s.head) == header {
				s.left = max(0, s.size()-tagSize)
				if s.size() == 0 {
					s.finish(each)
				}
			} else if len(s.head) == want && s.left == 0 {
				s.finish(each)
			}
			continue
		}
		n := min(s.left, len(b))
		s.left, b = s.left-n, b[n:]
		if s.left == 0 {
			s.finish(each)
		}
	}
}

func (s *answerScanner) size() int { return int(binary.BigEndian.Uint32(s.head[1:5])) - 4 }

func (s *answerScanner) finish(each func(kind byte, tag string)) {
	tag, _, _ := strings.Cut(string(s.head[5:]), "\x00")
	each(s.head[0], tag)
	s.head, s.left = s.head[:0], 0
}
