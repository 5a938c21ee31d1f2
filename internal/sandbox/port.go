package sandbox

import (
	"errors"
	"fmt"
	"net"
)

// freePort returns a TCP port of the loopback address that was free a moment ago. Somebody else may
// take it before the server does, so the caller tries again with another.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.Join(fmt.Errorf("find a free port: listener has the address %v", listener.Addr()), listener.Close())
	}
	return address.Port, listener.Close()
}
