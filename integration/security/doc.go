// Package security tests who may do what, and what is encrypted, verified and never shown.
package security
