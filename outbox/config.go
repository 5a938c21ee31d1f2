package outbox

// Config says where events are written and what is refused. The zero value works.
type Config struct {
	// Table is the outbox table, optionally with its schema: "outbox" or "billing.outbox". The
	// names are quoted and taken as written, upper case included. LockAggregate uses the function
	// in the same schema. Defaults to "outbox", found by the search_path.
	Table string

	// MaxBytes bounds the bytes of key, payload and headers of one message. A row that is larger
	// than its topic allows could never be published, so set it below max.message.bytes of the
	// topics, with room for the record's own framing. Defaults to 1,000,000, which fits Kafka's
	// default of 1,048,588.
	MaxBytes int

	// Route is the relay's route; {aggregate_type} stands for the aggregate type. Nothing is sent
	// by it here: a message without a topic is refused if the route would make no legal topic of
	// it. Set it to what the relay is set to. Defaults to "outbox.event.{aggregate_type}", as the
	// relay's does.
	Route string
}

// WithDefaults returns a copy with every unset field at its default.
func (c Config) WithDefaults() Config {
	if c.Table == "" {
		c.Table = "outbox"
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1_000_000
	}
	if c.Route == "" {
		c.Route = "outbox.event.{aggregate_type}"
	}
	return c
}
