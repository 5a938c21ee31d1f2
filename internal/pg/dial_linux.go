package pg

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// unacknowledged is how long sent data may stay without an acknowledgement, in milliseconds.
// Keepalives are not sent then, and the kernel would otherwise retransmit for a quarter of an hour.
const unacknowledged = 10_000

// boundUnacknowledged ends a connection whose other side is gone. A Unix socket has no other host,
// and refuses the option.
func boundUnacknowledged(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	if controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unacknowledged)
	}); controlErr != nil {
		return controlErr
	}
	return err
}
