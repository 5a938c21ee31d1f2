// Package election owns this process's place in the consumer group that shares the lanes of a
// deployment: partition n of the checkpoint topic stands for lane n. Nothing is consumed through
// it.
//
// The group says who should run a lane. It decides no more than that: a lane is safe because of its
// epoch in Postgres and the fence in Kafka, whichever process believes to be assigned.
package election
