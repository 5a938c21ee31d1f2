// Package config turns flags, the environment and a file into the configuration of the binary.
//
// One table, Settings, names every setting once: topics.create is the flag --topics-create, the
// variable RELAY_TOPICS_CREATE and the key topics.create of the file. A flag wins over the
// environment, the environment over the file, the file over the default. The defaults themselves
// are those of relay.Config, so they are written down in one place.
//
// Load reports every fault it finds at once: values that do not parse, unknown keys and variables
// (with the nearest name that exists), and values out of range. Secrets are never in
// an error; Redact removes them from text of other origin.
package config
