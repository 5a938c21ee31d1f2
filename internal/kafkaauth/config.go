package kafkaauth

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/secretfile"
)

// Config says how the relay and the brokers know each other. The zero value is plain text without
// authentication.
type Config struct {
	// TLS says how connections are encrypted, and who the brokers are.
	TLS TLS
	// SASL says who the relay is.
	SASL SASL
}

// TLS configures the encryption of connections to brokers.
type TLS struct {
	// Enabled encrypts connections and checks the certificates of the brokers. Defaults to false.
	Enabled bool

	// CAFile holds the authorities that brokers' certificates must come from, in PEM. Defaults to
	// those of the system.
	CAFile string

	// CertificateFile and KeyFile hold the relay's own certificate, with intermediates where there
	// are any, and its key, in PEM, for brokers that ask for them. Default to none.
	CertificateFile, KeyFile string

	// ServerName is the name that brokers' certificates must be for. Defaults to the host that is
	// connected to.
	ServerName string
}

// The mechanisms of SASL.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)

// Mechanisms returns the names of the mechanisms that SASL.Mechanism may hold.
func Mechanisms() []string { return []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer} }

// SASL configures how the relay says who it is.
type SASL struct {
	// Mechanism is one of Mechanisms. Defaults to none: the relay does not say who it is.
	Mechanism string

	// User is the name of the relay, for PLAIN and SCRAM.
	User string

	// Password is that of User; PasswordFile is a file that holds it and is read at each
	// authentication. One of both.
	Password, PasswordFile string

	// TokenFile holds the token for OAUTHBEARER and is read at each authentication.
	TokenFile string

	// WithoutTLS allows a PLAIN password or a token on connections that TLS does not encrypt, for
	// networks that encrypt by other means. Connections to the loopback address need no permission.
	// Defaults to false.
	WithoutTLS bool
}

// Options returns the options of a Kafka client. They may be used for any number of clients.
func (c Config) Options() []kgo.Opt {
	var options []kgo.Opt
	if c.TLS.Enabled {
		options = append(options, kgo.Dialer(c.TLS.dial))
	}
	if mechanism := c.SASL.mechanism(); mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	return options
}

// Check reports every fault of c and of the files that it names, for connections to brokers,
// HOST:PORT each. Each fault begins with the name of its setting and a colon. The warnings are
// about what works, and perhaps should not.
func (c Config) Check(brokers []string, now time.Time) (warnings []string, err error) {
	r := &report{}
	c.TLS.check(r, now)
	c.SASL.check(r)
	clear := !c.TLS.Enabled && !loopback(brokers)
	switch {
	case !clear || c.SASL.Mechanism == "":
	case c.SASL.Mechanism == ScramSHA256 || c.SASL.Mechanism == ScramSHA512:
		r.warn("kafka.sasl.mechanism: %s without TLS hides the password, but a listener can guess at it at leisure "+
			"and reads every event; turn kafka.tls.enabled on", c.SASL.Mechanism)
	case !c.SASL.WithoutTLS:
		r.fault("kafka.sasl.mechanism", hint.New(c.SASL.Mechanism+" without TLS shows the password or the token to every listener",
			"--kafka-tls-enabled; or --kafka-sasl-without-tls if the network encrypts by other means"))
	}
	return r.warnings, errors.Join(r.faults...)
}

// loopback reports whether every broker is on this machine, as far as its address says.
func loopback(brokers []string) bool {
	for _, broker := range brokers {
		host, _, err := net.SplitHostPort(broker)
		if err != nil {
			return false
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// report collects faults and warnings.
type report struct {
	faults   []error
	warnings []string
}

// fault adds an error under the name of its setting.
func (r *report) fault(setting string, err error) {
	r.faults = append(r.faults, fmt.Errorf("%s: %w", setting, err))
}

func (r *report) warn(format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// file reads a file that a setting names, and reports false after it has added the fault.
func (r *report) file(setting, path string) ([]byte, bool) {
	content, err := secretfile.Bytes(path)
	if err != nil {
		r.fault(setting, err)
		return nil, false
	}
	return content, true
}

// text is file for one that holds one line.
func (r *report) text(setting, path string) (string, bool) {
	content, err := secretfile.Text(path)
	if err != nil {
		r.fault(setting, err)
		return "", false
	}
	return content, true
}
