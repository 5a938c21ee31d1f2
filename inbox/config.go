package inbox

import (
	"time"
)

// Config says who consumes, and how. Only Consumer is required.
type Config struct {
	// Consumer is the name under which messages are marked: that of the service, the same for all of its processes and for
	// ever. Two services that both need each message have two names. At most 255 bytes. Required.
	Consumer string

	// Schema is the schema of the inbox tables. Defaults to none: the search_path of the connection finds them.
	Schema string

	// Instance is who this process is, in claims and sessions. Defaults to the host name, the process id and a random part.
	Instance string

	// HandlerTimeout bounds one call of a handler. Its context ends then; a handler that goes on regardless is left behind: its
	// connection is closed, so that it can change nothing any more. The call counts as a failure, ErrTimeout.
	// Defaults to 30 s.
	HandlerTimeout time.Duration

	// Retries is how often a transaction that Postgres broke off because of another one (a serialization failure, a deadlock) is
	// run again, handler and all, before the error is returned. Defaults to 10.
	Retries int
}
