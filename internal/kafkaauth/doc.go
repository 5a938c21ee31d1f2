// Package kafkaauth makes the options by which the Kafka clients of the relay know the brokers
// (TLS), and by which the brokers know the relay (mutual TLS, or SASL with PLAIN, SCRAM or
// OAUTHBEARER).
//
// Check reports at the start all that is wrong with the settings and the files they name. After
// that nothing is remembered: certificates, keys, passwords and tokens are read from their files
// for each new connection and each authentication, so what replaces them is used without a restart.
//
// Explain turns the errors of a connection that failed into what is wrong, and which setting fixes
// it.
package kafkaauth
