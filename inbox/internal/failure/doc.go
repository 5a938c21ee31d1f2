// Package failure says what an error is about: the message (Permanent, or to be tried again), the
// database or something else that every message needs (Unavailable), or nothing but another
// transaction (Rerunnable). It looks at errors only, and asks no server.
package failure
