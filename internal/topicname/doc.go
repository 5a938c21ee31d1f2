// Package topicname says which names of topics are legal, which a row may name, and which topic a
// route makes of an aggregate type. It is pure.
package topicname
