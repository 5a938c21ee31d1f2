//go:build !unix

package sandbox

import (
	"fmt"
	"os"
	"syscall"
)

// owner is the user that a server runs as: ourselves.
type owner struct{}

func ownerOfServers() (owner, error) { return owner{}, nil }

func (owner) attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func (owner) makeFolder() (string, error) {
	dir, err := os.MkdirTemp("", "relay-postgres-")
	if err != nil {
		return "", fmt.Errorf("make folder for Postgres: %w", err)
	}
	return dir, nil
}

func (owner) own(string) error { return nil }
