package event

import (
	"encoding/json"
	"fmt"
	"iter"

	"github.com/google/uuid"
)

// Columns hold messages the way one INSERT takes them: one array for each column, with one element
// for each message. A nil element is NULL. The ids and the headers are text, which every driver can
// send, and which the statement casts.
type Columns struct {
	IDs            []string
	AggregateTypes []string
	AggregateIDs   []string
	Types          []string
	Payloads       [][]byte
	Headers        []*string
	Topics         []*string // nil if no message names one
}

// A statement takes at most so many bytes of messages and so many messages: a message of Postgres's
// protocol, and an array, end at 1 GiB, and the server holds the arrays in memory. All but huge
// calls fit one statement.
const (
	statementBytes    = 32 << 20
	statementMessages = 50_000
)

// Statements cuts the messages, in order, into the Columns of as few statements as their sizes
// allow.
func Statements(messages []Message, ids []uuid.UUID) iter.Seq2[Columns, error] {
	return func(yield func(Columns, error) bool) {
		for start := 0; start < len(messages); {
			end, bytes := start, 0
			for end < len(messages) && end-start < statementMessages {
				if bytes += messages[end].size(); bytes > statementBytes && end > start {
					break
				}
				end++
			}
			columns, err := columnsOf(messages[start:end], ids[start:end])
			if !yield(columns, err) || err != nil {
				return
			}
			start = end
		}
	}
}

func columnsOf(messages []Message, ids []uuid.UUID) (Columns, error) {
	n := len(messages)
	c := Columns{
		IDs:            make([]string, n),
		AggregateTypes: make([]string, n),
		AggregateIDs:   make([]string, n),
		Types:          make([]string, n),
		Payloads:       make([][]byte, n),
		Headers:        make([]*string, n),
	}
	for i := range messages {
		m := &messages[i]
		c.IDs[i] = ids[i].String()
		c.AggregateTypes[i], c.AggregateIDs[i], c.Types[i] = m.AggregateType, m.AggregateID, m.Type
		if m.Topic != "" {
			if c.Topics == nil {
				c.Topics = make([]*string, n)
			}
			c.Topics[i] = &m.Topic
		}
		c.Payloads[i] = m.Payload
		headers, err := encodeHeaders(m.Headers)
		if err != nil {
			return Columns{}, err
		}
		c.Headers[i] = headers
	}
	return c, nil
}

// encodeHeaders returns the JSON object of the headers, nil if there are none.
func encodeHeaders(headers map[string]string) (*string, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(headers)
	if err != nil {
		return nil, fmt.Errorf("encode headers: %w", err)
	}
	text := string(b)
	return &text, nil
}
