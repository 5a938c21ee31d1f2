// Package topics owns what a lane knows of the topics that its rows go to.
//
// Registry looks a topic up before anything is produced to it: whether it exists, how large its
// batches may be, and over how many partitions a session spreads its keys. Unavailable remembers
// the topics that cannot be written to now. The lane waits for them for a while, as long as a
// budget lasts; then a topic is suspended: its rows are parked, and all others go on. IsUnavailable
// and IsRecordFault tell whether an error of a produce request speaks of the topic or of the
// record.
//
// The package asks brokers about topics, and creates them if it is told to. It reads and writes no
// records, and it does not know Postgres.
package topics
