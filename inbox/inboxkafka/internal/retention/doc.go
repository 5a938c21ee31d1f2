// Package retention says how long an inbox must keep its marks: as long as a message can come back.
// It reads that from the settings of the topics (lifetime.go), tells the inbox, and removes what is
// older (retention.go). It touches no records and no offsets.
package retention
