package config

import (
	"errors"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/kafkaauth"
	"github.com/outbox-relay/relay/internal/secretfile"
)

func kafkaSecurity() []Setting {
	return []Setting{
		{Name: "kafka.tls.enabled", Kind: Switch,
			Help:  "encrypt connections to brokers and check their certificates",
			field: func(c *Config) any { return &c.Kafka.TLS.Enabled }},
		{Name: "kafka.tls.ca-file", Kind: Text,
			Help:  "PEM file with the authorities that brokers' certificates must come from; unset, those of the system",
			field: func(c *Config) any { return &c.Kafka.TLS.CAFile }},
		{Name: "kafka.tls.certificate-file", Kind: Text,
			Help:  "PEM file with the relay's own certificate, for brokers that ask for one; read again for each connection",
			field: func(c *Config) any { return &c.Kafka.TLS.CertificateFile }},
		{Name: "kafka.tls.key-file", Kind: Text,
			Help:  "PEM file with the key of that certificate; read again for each connection",
			field: func(c *Config) any { return &c.Kafka.TLS.KeyFile }},
		{Name: "kafka.tls.server-name", Kind: Text,
			Help:  "name that brokers' certificates must be for; unset, the host that is connected to",
			field: func(c *Config) any { return &c.Kafka.TLS.ServerName }},
		{Name: "kafka.sasl.mechanism", Kind: Text, Choices: kafkaauth.Mechanisms(),
			Help:  "how the relay says who it is; unset, it does not",
			field: func(c *Config) any { return &c.Kafka.SASL.Mechanism }},
		{Name: "kafka.sasl.user", Kind: Text,
			Help:  "name of the relay, for PLAIN and SCRAM",
			field: func(c *Config) any { return &c.Kafka.SASL.User }},
		{Name: "kafka.sasl.password", Kind: Text, Secret: true,
			Help:  "password of that user",
			field: func(c *Config) any { return &c.Kafka.SASL.Password }},
		{Name: "kafka.sasl.password-file", Kind: Text,
			Help:  "file that holds the password; read again at each authentication",
			field: func(c *Config) any { return &c.Kafka.SASL.PasswordFile }},
		{Name: "kafka.sasl.token-file", Kind: Text,
			Help:  "file that holds the token for OAUTHBEARER; read again at each authentication",
			field: func(c *Config) any { return &c.Kafka.SASL.TokenFile }},
		{Name: "kafka.sasl.without-tls", Kind: Switch,
			Help:  "allow a PLAIN password or a token on connections without TLS, if the network encrypts by other means",
			field: func(c *Config) any { return &c.Kafka.SASL.WithoutTLS }},
	}
}

// FileSuffix ends the name of a setting that names the file with the value of a secret one.
const FileSuffix = "-file"

// preferStronger settles a secret that is given both as a value and as a file: the one from the
// stronger source holds, so that a flag can replace a variable of the container. From one
// source both are a fault.
func preferStronger(c *Config, given map[string]source, faults *faultList) {
	for _, s := range table() {
		if !s.Secret {
			continue
		}
		file, _ := Lookup(s.Name + FileSuffix)
		value, byFile := given[s.Name], given[file.Name]
		switch {
		case value.rank == 0 || byFile.rank == 0:
		case value.rank == byFile.rank:
			faults.add(s.Name, hint.New(fmt.Sprintf("%s: given beside %s (%s and %s)", s.Name, file.Name, value.origin, byFile.origin),
				"give one of the two"))
			*file.field(c).(*string) = "" //nolint:errcheck // names of files are texts
		case value.rank > byFile.rank:
			*file.field(c).(*string) = "" //nolint:errcheck // as above
		default:
			*s.field(c).(*string) = "" //nolint:errcheck // secrets are texts
		}
	}
}

// readDatabaseURL completes the connection string from the files that hold it or its password.
func (c *Config) readDatabaseURL(faults *faultList) {
	if c.DatabaseURLFile == "" && c.DatabasePasswordFile == "" {
		return
	}
	if c.DatabaseURLFile == "" && c.Relay.DatabaseURL == "" {
		return // reported as missing
	}
	url, err := c.ReadDatabaseURL()
	if err != nil {
		// The setting that is to blame begins the error.
		for _, fault := range split(err) {
			faults.add("database-url", fault)
		}
		return
	}
	current := *c
	c.Relay.DatabaseURLFunc = func() (string, error) {
		url, err := current.ReadDatabaseURL()
		if err == nil {
			// The driver's own errors would show what is in the file.
			err = checkDatabaseURL(url)
		}
		return withSchema(url, current.Schema), err
	}
	c.Relay.DatabaseURL = url
}

// ReadDatabaseURL reads the files that hold the connection string and its password, if there are
// any, and returns the connection string as it is at this moment, without the schema.
func (c Config) ReadDatabaseURL() (string, error) {
	url, password := c.Relay.DatabaseURL, ""
	var errURL, errPassword error
	if c.DatabaseURLFile != "" {
		if url, errURL = secretfile.Text(c.DatabaseURLFile); errURL != nil {
			errURL = fmt.Errorf("database-url-file: %w", errURL)
		}
	}
	if c.DatabasePasswordFile != "" {
		if password, errPassword = secretfile.Text(c.DatabasePasswordFile); errPassword != nil {
			errPassword = fmt.Errorf("database-password-file: %w", errPassword)
		}
	}
	if err := errors.Join(errURL, errPassword); err != nil {
		return "", err
	}
	if password != "" {
		url = withParameter(url, "password", password)
	}
	return url, nil
}

// checkKafka reports the faults of the settings of TLS and SASL, and turns them into options of the
// clients.
func (c *Config) checkKafka(faults *faultList) {
	warnings, err := c.Kafka.Check(c.Relay.Brokers, time.Now())
	for _, fault := range split(err) {
		faults.addNamed(fault)
	}
	c.Warnings = append(c.Warnings, warnings...)
	c.Relay.KafkaOptions = append(c.Relay.KafkaOptions, c.Kafka.Options()...)
}
