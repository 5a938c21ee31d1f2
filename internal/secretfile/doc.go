// Package secretfile reads secrets that are kept in files: a password, a token or a connection
// string, mounted by Kubernetes, Vault or systemd. A file is read each time that its content is
// needed, so a secret that is replaced holds from the next connection on. No error shows any part
// of the content.
package secretfile
