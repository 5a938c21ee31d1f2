package peers

// The contenders, by the names that lines and settings have for them.
const (
	Relay           = "relay"
	Debezium        = "debezium"
	DebeziumUntuned = "debezium-untuned"
	Poller          = "poller"
	Pollers         = "pollers"
)

// All are the contenders in the order in which tables show them.
var All = []string{Relay, Debezium, DebeziumUntuned, Poller, Pollers}

// PollerInstances is how many processes Pollers has.
const PollerInstances = 4

// Titles are what tables and plots call the contenders.
var Titles = map[string]string{
	Relay:           "relay",
	Debezium:        "Debezium, tuned",
	DebeziumUntuned: "Debezium, as people run it",
	Poller:          "home-made poller, one",
	Pollers:         "home-made poller, four",
}

// recoveryRate is how many rows come a second while a contender is killed.
const recoveryRate = 500
