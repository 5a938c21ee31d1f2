package inbox

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// gate is a TCP proxy in front of a server. Open, it passes everything on. Shut, nothing passes in
// either direction, new connections included, without a word: as when a cable is pulled.
type gate struct {
	t        testing.TB
	listener net.Listener
	target   string

	mu      sync.Mutex
	opened  chan struct{}     // closed while the gate is open
	ended   chan struct{}     // closed at the end
	conns   map[net.Conn]bool // true: of a client
	gone    map[net.Conn]bool // which hang forever
	closing bool
	running sync.WaitGroup
}

// newGate opens one in front of the server of a database, and returns the database's URL through
// it.
func newGate(t testing.TB, databaseURL string) (g *gate, through string) {
	t.Helper()
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g = &gate{
		t: t, listener: listener, target: address.Host, opened: make(chan struct{}), ended: make(chan struct{}), conns: make(map[net.Conn]bool), gone: make(map[net.Conn]bool),
	}
	close(g.opened)
	g.running.Go(g.serve)
	t.Cleanup(g.close)
	address.Host = listener.Addr().String()
	return g, address.String()
}

func (g *gate) serve() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				g.t.Errorf("gate: %v", err)
			}
			return
		}
		g.running.Go(func() { g.connect(client) })
	}
}

func (g *gate) connect(client net.Conn) {
	if !g.keep(client, true) {
		return
	}
	if !g.pass(client) {
		return
	}
	server, err := net.Dial("tcp", g.target)
	if err != nil { // the server is unavailable, as it may be
		_ = client.Close()
		return
	}
	if !g.keep(server, false) {
		_ = client.Close()
		return
	}
	g.running.Go(func() { g.pipe(client, server) })
	g.pipe(server, client)
}

// keep notes a connection that is to be closed at the end, or closes it at once.
func (g *gate) keep(conn net.Conn, client bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		_ = conn.Close()
		return false
	}
	g.conns[conn] = client
	return true
}

// pipe copies one direction until an end is closed, and then closes the other one.
func (g *gate) pipe(to, from net.Conn) {
	defer func() {
		if g.pass(from) {
			_ = to.Close()
		}
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !g.pass(from) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			return
		}
	}
}

// pass waits while the gate is shut for a connection, and reports whether it may go on.
func (g *gate) pass(conn net.Conn) bool {
	g.mu.Lock()
	opened, gone := g.opened, g.gone[conn]
	g.mu.Unlock()
	if gone {
		<-g.ended
		return false
	}
	select {
	case <-opened:
		return true
	case <-g.ended:
		return false
	}
}

// replace lets the clients' connections that exist hang forever, while new ones pass: as when
// another host has taken over the address. The server is told, so that it rolls back what was open.
func (g *gate) replace() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn, client := range g.conns {
		g.gone[conn] = true
		if !client {
			_ = conn.Close()
		}
	}
}

// shut lets nothing pass any more.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = make(chan struct{})
}

// open lets everything pass again, also what has come meanwhile.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.opened)
}

// close ends the gate and every connection.
func (g *gate) close() {
	g.mu.Lock()
	g.closing = true
	close(g.ended)
	for conn := range g.conns {
		_ = conn.Close()
	}
	g.mu.Unlock()
	_ = g.listener.Close()
	g.running.Wait()
}
