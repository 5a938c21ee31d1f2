// Package offsets tells the group how far its partitions are done, and learns from the brokers how
// far they go. It decides nothing: package schedule knows the watermarks.
package offsets
