// Package bench tests relay bench on real servers (tag more), and, with the tag bench, what
// docs/measured.md quotes.
package bench
