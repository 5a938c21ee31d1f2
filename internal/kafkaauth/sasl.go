package kafkaauth

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/secretfile"
)

// The names of the settings, for errors.
const (
	settingMechanism    = "kafka.sasl.mechanism"
	settingUser         = "kafka.sasl.user"
	settingPassword     = "kafka.sasl.password"
	settingPasswordFile = "kafka.sasl.password-file"
	settingTokenFile    = "kafka.sasl.token-file"
	settingWithoutTLS   = "kafka.sasl.without-tls"
)

// check reports the faults of the settings and of their files.
func (s SASL) check(r *report) {
	switch s.Mechanism {
	case "":
		s.refuse(r, "given without "+settingMechanism, "--kafka-sasl-mechanism "+ScramSHA512+", or another that the brokers offer",
			settingUser, settingPassword, settingPasswordFile, settingTokenFile, settingWithoutTLS)
	case Plain, ScramSHA256, ScramSHA512:
		s.refuse(r, "not used by "+s.Mechanism, "leave it out, or --kafka-sasl-mechanism "+OAuthBearer, settingTokenFile)
		if s.User == "" {
			r.fault(settingUser, hint.New("not set, and "+s.Mechanism+" needs it", "--kafka-sasl-user NAME"))
		}
		switch {
		case s.PasswordFile != "" && s.Password != "":
			r.fault(settingPassword, hint.New("given beside "+settingPasswordFile, "give one of the two"))
		case s.PasswordFile != "":
			r.text(settingPasswordFile, s.PasswordFile)
		case s.Password == "":
			r.fault(settingPasswordFile, hint.New("not set, and "+s.Mechanism+" needs a password",
				"--kafka-sasl-password-file FILE, or set RELAY_KAFKA_SASL_PASSWORD"))
		}
	case OAuthBearer:
		s.refuse(r, "not used by "+s.Mechanism, "leave it out, or choose another mechanism", settingUser, settingPassword, settingPasswordFile)
		if s.TokenFile == "" {
			r.fault(settingTokenFile, hint.New("not set, and "+s.Mechanism+" needs it", "--kafka-sasl-token-file FILE"))
		} else {
			r.text(settingTokenFile, s.TokenFile)
		}
	default:
		r.fault(settingMechanism, fmt.Errorf("%q is not one of %s", s.Mechanism, strings.Join(Mechanisms(), ", ")))
	}
}

// refuse reports each of the settings that is given.
func (s SASL) refuse(r *report, why, try string, settings ...string) {
	given := map[string]bool{
		settingUser: s.User != "", settingPassword: s.Password != "", settingPasswordFile: s.PasswordFile != "",
		settingTokenFile: s.TokenFile != "", settingWithoutTLS: s.WithoutTLS,
	}
	for _, setting := range settings {
		if given[setting] {
			r.fault(setting, hint.New(why, try))
		}
	}
}

// mechanism returns what a client authenticates by, nil for none. Files are read at each
// authentication.
func (s SASL) mechanism() sasl.Mechanism {
	switch s.Mechanism {
	case Plain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := s.password()
			return plain.Auth{User: s.User, Pass: password}, err
		})
	case ScramSHA256:
		return scram.Sha256(s.scram)
	case ScramSHA512:
		return scram.Sha512(s.scram)
	case OAuthBearer:
		return bearer{oauth.Oauth(func(context.Context) (oauth.Auth, error) {
			token, err := secretfile.Text(s.TokenFile)
			if err != nil {
				return oauth.Auth{}, fmt.Errorf("%s: %w", settingTokenFile, err)
			}
			return oauth.Auth{Token: strings.TrimSpace(token)}, nil
		})}
	}
	return nil
}

func (s SASL) scram(context.Context) (scram.Auth, error) {
	password, err := s.password()
	return scram.Auth{User: s.User, Pass: password}, err
}

func (s SASL) password() (string, error) {
	if s.PasswordFile == "" {
		return s.Password, nil
	}
	password, err := secretfile.Text(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("%s: %w", settingPasswordFile, err)
	}
	return password, nil
}

// bearer is OAUTHBEARER with the last step of a refusal (RFC 7628, section 3.2.3): a broker that
// does not accept a token says so in a challenge, and only after the client has answered it with
// one byte does it end the authentication with its error.
type bearer struct{ sasl.Mechanism }

// Authenticate begins a session.
func (b bearer) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := b.Mechanism.Authenticate(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	return bearerSession{session}, first, nil
}

type bearerSession struct{ sasl.Session }

// Challenge answers what the broker says to the token.
func (s bearerSession) Challenge(challenge []byte) (bool, []byte, error) {
	if len(challenge) > 0 {
		return false, []byte{1}, nil
	}
	return s.Session.Challenge(challenge)
}
