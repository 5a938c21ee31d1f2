// Package prose has no code, only tests of what people read: README.md, DESIGN.md, docs/ and the
// other pages.
//
// Lines are at most 100 columns, words are plain, links lead somewhere, the program in README.md
// compiles, and every test that a page names exists.
package prose
