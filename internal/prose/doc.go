// Package prose has no code, only tests of what people read: README.md, DESIGN.md and docs/.
//
// Links lead somewhere, the program in README.md compiles, and every test that a page names exists.
package prose
