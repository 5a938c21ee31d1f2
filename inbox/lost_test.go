package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

func TestAConnectionThatIsKilledInTheHandlerIsAnOutage(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		kill := func(ctx context.Context, tx transaction) error {
			if err := write(ctx, tx, "half"); err != nil {
				return err
			}
			var pid int
			if err := tx.scan(ctx, &pid, "SELECT pg_backend_pid()"); err != nil {
				return err
			}
			w.do("SELECT pg_terminate_backend($1, 10000)", pid)
			return nil
		}
		// At the next statement, or with COMMIT.
		for _, then := range []handler{effect("more"), func(context.Context, transaction) error { return nil }} {
			result, err := w.Handle(w.Context(), m, func(ctx context.Context, tx transaction) error {
				if err := kill(ctx, tx); err != nil {
					return err
				}
				return then(ctx, tx)
			})
			if result != inbox.Failed || !inbox.IsUnavailable(err) {
				w.Fatal(result, err)
			}
			outcomes, err := w.HandleBatch(w.Context(), []inbox.Message{m}, func(ctx context.Context, tx transaction, _ []inbox.Message) error {
				if err := kill(ctx, tx); err != nil {
					return err
				}
				return then(ctx, tx)
			})
			if results(outcomes) != "failed" || !inbox.IsUnavailable(err) {
				w.Fatal(outcomes, err)
			}
		}
		// The handler hides what happened.
		result, err := w.Handle(w.Context(), m, func(ctx context.Context, tx transaction) error {
			if err := kill(ctx, tx); err != nil {
				return err
			}
			if write(ctx, tx, "more") == nil {
				return errors.New("no error")
			}
			return errors.New("could not pay")
		})
		if result != inbox.Failed || !inbox.IsUnavailable(err) {
			w.Fatal(result, err)
		}
		w.wantEmpty()
		w.want(inbox.Processed, w, m, effect("paid"))
		w.wantEffects("paid")
	})
}

// No message is to blame for a database that lets no session in, whatever it says.
func TestADatabaseThatLetsNobodyInIsAnOutage(t *testing.T) {
	each(t, func(w *world) {
		u, err := url.Parse(w.url)
		if err != nil {
			w.Fatal(err)
		}
		u.Path = "/template0" // takes no connections: SQLSTATE 55000
		nowhere := w.processAt(u.String(), 1, nil)
		result, err := nowhere.Handle(w.Context(), message("1", "k"), never)
		if result != inbox.Failed || !inbox.IsUnavailable(err) {
			w.Fatal(result, err)
		}
		outcomes, err := nowhere.HandleBatch(w.Context(), batchOf("1 a", "2 b"), effects)
		if results(outcomes) != "failed failed" || !inbox.IsUnavailable(err) {
			w.Fatal(outcomes, err)
		}
	})
}

// wire is a network between a process and Postgres that can be cut in the direction of the answers.
type wire struct {
	listener net.Listener
	mu       sync.Mutex
	mute     bool
	frozen   bool // the process does not come to its COMMIT
	stopped  int
	open     []net.Conn
	all      sync.WaitGroup
}

func (w *world) throughWire() (*wire, string) {
	u, err := url.Parse(w.url)
	if err != nil {
		w.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	x, server := &wire{listener: listener}, u.Host
	x.all.Go(func() { x.accept(server) })
	w.Cleanup(x.end)
	u.Host = listener.Addr().String()
	return x, u.String()
}

func (x *wire) accept(server string) {
	for {
		client, err := x.listener.Accept()
		if err != nil {
			return
		}
		upstream, err := net.Dial("tcp", server)
		if err != nil {
			_ = client.Close() // the client sees that the server is gone
			continue
		}
		x.mu.Lock()
		x.open = append(x.open, client, upstream)
		x.mu.Unlock()
		x.all.Go(func() { x.pass(upstream, client, x.stopsAtCommit) })
		x.all.Go(func() { x.pass(client, upstream, func([]byte) bool { return x.muted() }) })
	}
}

func (x *wire) muted() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.mute
}

// stopsAtCommit swallows COMMIT, and so makes of the client a process that is frozen before it.
func (x *wire) stopsAtCommit(said []byte) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	stops := x.frozen && bytes.Contains(said, []byte("commit"))
	if stops {
		x.stopped++
	}
	return stops
}

// freeze begins or ends that, and returns how often it was so.
func (x *wire) freeze(frozen bool) (stopped int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.frozen = frozen
	return x.stopped
}

func (x *wire) setMute(mute bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.mute = mute
}

// pass copies, or swallows; a side that ends ends the other one.
func (x *wire) pass(to io.WriteCloser, from io.Reader, swallow func(said []byte) bool) {
	defer func() { _ = to.Close() }()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if swallow(buffer[:n]) {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cut ends every connection.
func (x *wire) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.open {
		_ = c.Close() // it may have ended by itself
	}
	x.open = nil
}

func (x *wire) end() {
	_ = x.listener.Close() // a listener that is closed
	x.cut()
	x.all.Wait()
}

func TestACommitWhoseAnswerIsLostIsAnOutageAndADuplicateAfterwards(t *testing.T) {
	each(t, func(w *world) {
		x, url := w.throughWire()
		b := w.processAt(url, 1, nil)
		m := message("1", "k")
		done := w.handling(b, m, func(ctx context.Context, tx transaction) error {
			err := write(ctx, tx, "paid")
			x.setMute(true) // the answer to COMMIT
			return err
		})
		w.until("the message is committed", func() bool { return w.count("effects") == 1 })
		x.cut()
		x.setMute(false)
		if got := soon(w, done); got.result != inbox.Failed || !inbox.IsUnavailable(got.err) {
			w.Fatal(got)
		}
		w.want(inbox.Duplicate, b, m, never)
		w.wantEffects("paid")
	})
}

func TestADatabaseThatSaysNothingMoreEndsTheWaitOfTheCaller(t *testing.T) {
	each(t, func(w *world) {
		x, url := w.throughWire()
		b := w.processAt(url, 1, quick)
		w.want(inbox.Processed, b, message("0", "k"), effect("0"))
		ctx, cancel := context.WithCancel(w.Context())
		x.setMute(true)
		done := background(func() outcome {
			result, err := b.Handle(ctx, message("1", "k"), never)
			return outcome{result, err}
		})
		cancel()
		if got := soon(w, done); got.result != inbox.Failed || !errors.Is(got.err, context.Canceled) {
			w.Fatal(got)
		}
	})
}
