// Package examples tests the programs of examples/, with the tag examples.
package examples
