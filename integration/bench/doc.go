// Package bench tests relay bench on real servers, and, with the tag bench, what docs/measured.md
// quotes.
package bench
