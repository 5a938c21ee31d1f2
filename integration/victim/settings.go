package victim

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Variable is the environment variable that holds the Settings as JSON.
const Variable = "VICTIM_SETTINGS"

// Settings are those of one process.
type Settings struct {
	DatabaseURL string
	Brokers     []string
	Topics      []string
	Consumer    string // also the name of the group
	Debezium    bool   // messages are identified by header id instead of msg_id and source
	SQL         bool   // the service uses database/sql, otherwise pgx
	Batch       bool   // the handler takes many messages at once
	Mails       string // a file: the effect is a line in it, at most once, and there is no other
	Fail        string // POINT:N, or POINT:N:ACTION; see Points

	// Settings of the library; zero takes its default.
	SessionTimeout time.Duration
	HandlerTimeout time.Duration
	DrainTimeout   time.Duration
	Backoff        time.Duration
	Attempts       int
	CrashLimit     int
	Workers        int
}

// Environment is the line for the environment of the process.
func (s Settings) Environment() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // there is nothing in it that has no JSON
	}
	return Variable + "=" + string(text)
}

// FromEnvironment reads the settings.
func FromEnvironment() (s Settings, err error) {
	if err = json.Unmarshal([]byte(os.Getenv(Variable)), &s); err != nil {
		return s, fmt.Errorf("read %s: %w", Variable, err)
	}
	return s, nil
}
