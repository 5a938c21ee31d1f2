// Package hint lets an error carry what its reader can do about it.
//
// An error says what went wrong; a hint says which command to run or which value to change.
// Packages that know both wrap the error with New or Wrap, and the binary prints the two on lines
// with a label ("Error:" and "Try:"). A hint survives further wrapping with %w and errors.Join, so
// it is found however deep it is.
package hint
