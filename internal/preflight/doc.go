// Package preflight finds out, before anything runs, whether the servers are there and fit.
//
// Waiting cannot fix some faults: a wrong password, a database that does not exist, a missing
// table. They end the check at once, with a hint. A server that does not answer may be about to
// start, so it is tried again until the time is up. That bounded wait belongs to the start only: a
// relay that runs waits for its servers forever.
//
// Connect and Explain serve the other commands too, so that they speak of the same fault in the
// same words.
package preflight
