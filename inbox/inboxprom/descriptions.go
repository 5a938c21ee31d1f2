package inboxprom

import "github.com/prometheus/client_golang/prometheus"

// descriptions are those of all metrics.
var descriptions []*prometheus.Desc

// describe adds one; every metric has the label group.
func describe(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, append([]string{"group"}, labels...), nil)
	descriptions = append(descriptions, d)
	return d
}

// ofPartition adds one of a partition.
func ofPartition(name, help string) *prometheus.Desc {
	return describe(name, help, "topic", "partition")
}

// What has happened.
var (
	messages = describe("inbox_messages_total", "Messages that are done: processed, duplicate (handled before), parked, "+
		"or audited (an effect of unknown outcome, not run again).", "result")
	failures = describe("inbox_failures_total", "Calls of the handler that failed and are tried again.")
	retries  = describe("inbox_retries_total", "Parked messages that were handled because a person asked for it, by result.",
		"result")
	commits = describe("inbox_commits_total", "Offsets of partitions that were committed, or were not.", "result")
	deleted = describe("inbox_deleted_offsets_total", "Offsets that the brokers deleted before this group read them.")
	pauses  = describe("inbox_pauses_total", "How often the process has paused because the database, or what a handler needs, "+
		"was unavailable.")
)

// What the process does now.
var (
	paused     = describe("inbox_paused", "1 while the process pauses because the database, or what a handler needs, is unavailable.")
	held       = describe("inbox_held_messages", "Messages in the process, waiting or in flight.")
	heldBytes  = describe("inbox_held_bytes", "Bytes of the messages in the process.")
	inFlight   = describe("inbox_in_flight_transactions", "Transactions that run now.")
	assigned   = describe("inbox_assigned_partitions", "Partitions that the process works on.")
	parkedKeys = describe("inbox_parked_keys", "Keys with parked messages, of all processes of the consumer; at most 10000 are counted.")
	parkedAge  = describe("inbox_parked_age_seconds", "How long the first of the parked keys has been parked; 0 if there is none.")
)

// The partitions that the process works on.
var (
	lag = ofPartition("inbox_partition_lag_offsets", "Offsets between the end of what can be read and what is done; markers of "+
		"transactions count until they are passed.")
	watermark          = ofPartition("inbox_partition_watermark_offset", "The offset up to which all is done.")
	uncommittedOffsets = ofPartition("inbox_partition_uncommitted_offsets", "Offsets that are done and not committed to the group yet.")
	progress           = ofPartition("inbox_partition_progress_timestamp_seconds", "Unix time when the watermark moved last; before "+
		"that, when the partition was assigned.")
	waitingKeys = ofPartition("inbox_partition_waiting_keys", "Keys that wait after a failure, or for a retry of what is parked before.")
	blockedKeys = ofPartition("inbox_partition_blocked_keys", "Keys whose first message has failed and is not done yet; later "+
		"messages of the key wait behind it.")
	blockedAge = ofPartition("inbox_partition_blocked_age_seconds", "How long ago the first message of the key that is blocked longest "+
		"failed first; 0 if no key is blocked.")
	oldestAge = ofPartition("inbox_partition_oldest_age_seconds", "Age of the oldest message in the process, by the time of its record; "+
		"0 if there is none.")
	fetchPaused = ofPartition("inbox_partition_fetch_paused",
		"1 while nothing is fetched, because the process holds enough of the partition.")
)
