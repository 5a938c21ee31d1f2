package kit

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// sessions are idle connections for Ask, by the URL of their database: a test that waits asks ten
// times a second, and each new session costs the server a process.
var sessions struct {
	mu   sync.Mutex
	idle map[string]*pgx.Conn
}

// Ask runs a query for one row. Its session stays open until the test ends, or EndSession.
func Ask(t testing.TB, url, query string, arguments []any, into ...any) error {
	t.Helper()
	ctx := t.Context()
	if conn := takeSession(url); conn != nil {
		err := conn.QueryRow(ctx, query, arguments...).Scan(into...)
		if err == nil || !conn.IsClosed() {
			putSession(url, conn)
			return err
		} // the server ended the session since it was used last
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	t.Cleanup(func() { EndSession(url) })
	err = conn.QueryRow(ctx, query, arguments...).Scan(into...)
	putSession(url, conn)
	return err
}

// EndSession closes the session that Ask has left open, for what allows no other connection.
func EndSession(url string) { CloseQuietly(takeSession(url)) }

func takeSession(url string) *pgx.Conn {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	conn := sessions.idle[url]
	delete(sessions.idle, url)
	return conn
}

// putSession keeps a session, unless it is closed or there is one already.
func putSession(url string, conn *pgx.Conn) {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	if sessions.idle == nil {
		sessions.idle = make(map[string]*pgx.Conn)
	}
	if sessions.idle[url] == nil && !conn.IsClosed() {
		sessions.idle[url] = conn
		return
	}
	_ = conn.Close(context.Background()) // beside one that is there already
}
