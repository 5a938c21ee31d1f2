package victim

import (
	"context"
	"encoding/binary"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// options are those that let failpoints see commits of offsets.
func (f *failpoint) options() []kgo.Opt {
	if f == nil {
		return nil
	}
	return []kgo.Opt{
		kgo.WithHooks(offsetHook{f}),
		kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return &brokerConn{conn, f}, err
		}),
	}
}

// brokerConn is a connection to a broker that knows a commit of offsets when it sees one.
type brokerConn struct {
	net.Conn
	fail *failpoint
}

// Write passes on one request, with its length and then the number of its kind in front.
func (c *brokerConn) Write(b []byte) (int, error) {
	const header = 6
	isCommit := len(b) > header && kmsg.Key(binary.BigEndian.Uint16(b[4:header])) == kmsg.OffsetCommit
	if isCommit {
		c.fail.pass(BeforeOffset)
	}
	n, err := c.Conn.Write(b)
	if isCommit {
		c.fail.pass(SentOffset)
	}
	return n, err
}

// offsetHook hears of answers.
type offsetHook struct{ fail *failpoint }

var _ kgo.HookBrokerRead = offsetHook{}

// OnBrokerRead is called by the client for each answer.
func (h offsetHook) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if err == nil && kmsg.Key(key) == kmsg.OffsetCommit {
		h.fail.pass(AfterOffset)
	}
}
