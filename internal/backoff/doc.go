// Package backoff waits between two attempts: for a time that is spread, and never beyond a
// context.
package backoff
