// Package brief keeps texts for people short: states, causes and the fields of a log line. Their
// parts come from rows and brokers, so nothing else bounds them. It does no I/O.
package brief
