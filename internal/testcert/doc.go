// Package testcert makes certificate authorities and certificates for tests. The keys are made
// each time and nothing is kept: it is no tool for production.
package testcert
