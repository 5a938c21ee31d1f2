// Package child runs a program, such as a relay, as a child process: it dies with its parent, the
// end of its log is kept for errors, and an unexpected death is an error.
//
// relay demo, relay bench, examples/run and the tests of integration/ start relays and services
// with it. It owns no server and does not know what the program does.
package child
