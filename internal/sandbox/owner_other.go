//go:build !unix

package sandbox

import (
	"fmt"
	"syscall"

	"github.com/outbox-relay/relay/internal/scratch"
)

// owner is the user that a server runs as: ourselves.
type owner struct{}

func ownerOfServers() (owner, error) { return owner{}, nil }

func (owner) attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func (owner) makeFolder(parent string) (*scratch.Folder, error) {
	folder, err := scratch.New(parent, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make folder for Postgres: %w", err)
	}
	return folder, nil
}

func (owner) own(string) error { return nil }
