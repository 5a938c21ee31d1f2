package kafkaauth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/hint"
)

// Explain says what is wrong if a connection to a broker failed for a reason of TLS or SASL,
// with a hint which setting fixes it. It returns nil for other errors. lasting reports whether
// waiting cannot fix it.
func (c Config) Explain(err error) (lasting bool, explained error) {
	if explained := c.explainCertificate(err); explained != nil {
		return true, explained
	}
	if explained := c.explainSASL(err); explained != nil {
		return true, explained
	}
	return c.explainClosed(err)
}

// explainCertificate is about the certificate of the broker, or the relay's own.
func (c Config) explainCertificate(err error) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		from := "by an authority that this machine trusts"
		if c.TLS.CAFile != "" {
			from = "by an authority in " + c.TLS.CAFile
		}
		return hint.New("the broker's certificate was not signed "+from,
			"--kafka-tls-ca-file FILE with the certificate of the authority that signs the brokers' certificates, in PEM")
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return hint.New(fmt.Sprintf("the broker's certificate is not for %s: %s", name.Host, withoutPackage(name.Error())),
			"name the brokers in brokers, and in their advertised.listeners, as in their certificates; or --kafka-tls-server-name NAME")
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return hint.New("the broker's certificate does not hold: "+withoutPackage(invalid.Error()),
			"renew the certificate of the broker, and check the clocks")
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return hint.New("the broker does not answer in TLS: "+record.Msg,
			"check that the port in brokers is that of a listener with TLS, or leave kafka.tls.enabled out")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return hint.New("the broker refused the TLS handshake: "+strings.TrimPrefix(op.Err.Error(), "tls: "),
			"if the brokers want a certificate of the relay: --kafka-tls-certificate-file and --kafka-tls-key-file, "+
				"signed by an authority that they trust")
	}
	return nil
}

// withoutPackage drops the name of the package that begins its errors.
func withoutPackage(text string) string { return strings.TrimPrefix(text, "x509: ") }

// explainSASL is about who the relay is.
func (c Config) explainSASL(err error) error {
	switch s := c.SASL; {
	case errors.Is(err, kerr.SaslAuthenticationFailed) && s.Mechanism == OAuthBearer:
		return hint.New("SASL authentication failed: the broker does not accept the token of "+s.TokenFile,
			"check that the token in kafka.sasl.token-file has not expired, and its issuer and audience")
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return hint.New(fmt.Sprintf("SASL authentication failed for user %s with %s", s.User, s.Mechanism),
			"check kafka.sasl.user and kafka.sasl.password-file (or kafka.sasl.password), and that the brokers know that user for "+
				"kafka.sasl.mechanism")
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return hint.New("the broker does not offer the SASL mechanism "+s.Mechanism,
			"--kafka-sasl-mechanism with one of the brokers' sasl.enabled.mechanisms")
	case errors.Is(err, kerr.IllegalSaslState):
		return hint.New("the broker asks for no SASL on this port",
			"check that the port in brokers is that of a listener with SASL, or leave kafka.sasl.mechanism out")
	}
	return nil
}

// explainClosed is about a broker that hangs up without a word, which it also does while it stops:
// so it is waited for.
func (c Config) explainClosed(err error) (lasting bool, explained error) {
	if !c.TLS.Enabled && strings.Contains(err.Error(), "tls alert record") {
		// The client has no type for it.
		return true, hint.New("the broker answers in TLS, and the relay spoke plain text",
			"--kafka-tls-enabled, or the port of a listener without TLS in brokers")
	}
	if _, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); !ok {
		return false, nil
	}
	var try string
	switch {
	case c.TLS.Enabled && strings.Contains(err.Error(), "after a dial"):
		try = "the port in brokers may be that of a listener without TLS: choose one with TLS, or leave kafka.tls.enabled out"
	case c.SASL.Mechanism == "" && c.TLS.Enabled:
		try = "the listener may want SASL: --kafka-sasl-mechanism with user and password"
	case c.SASL.Mechanism == "":
		try = "the listener may want TLS (--kafka-tls-enabled) or SASL (--kafka-sasl-mechanism)"
	default:
		try = "the listener may want TLS: --kafka-tls-enabled"
	}
	return false, hint.New("the broker closed the connection at once", try)
}
