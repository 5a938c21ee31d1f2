//go:build unix

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/outbox-relay/relay/internal/cache"
	"github.com/outbox-relay/relay/internal/scratch"
)

// owner is the user that a server runs as. Postgres refuses to run as root, so root gives it to
// somebody else.
type owner struct {
	credential *syscall.Credential // nil: as ourselves
}

// ownerOfServers chooses the user: ourselves, or for root the user "postgres", or "nobody".
func ownerOfServers() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return owner{}, fmt.Errorf("read ids of user %s: %w", name, err)
		}
		return owner{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return owner{}, errors.New("find a user to run Postgres as: it refuses to run as root, and there is no user " +
		"postgres or nobody; run as an ordinary user")
}

func (o owner) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: o.credential}
}

// makeFolder makes a folder in parent that the owner can reach and owns; by default in one for
// temporary files.
func (o owner) makeFolder(parent string) (*scratch.Folder, error) {
	if parent == "" {
		parent = o.temporary()
	}
	var users []int
	if o.credential != nil {
		users = append(users, int(o.credential.Uid))
	}
	folder, err := scratch.New(parent, folderPrefix, users...)
	if err != nil {
		return nil, fmt.Errorf("make folder for Postgres: %w", err)
	}
	if err := o.own(folder.Path); err != nil {
		return nil, errors.Join(fmt.Errorf("hand over folder to Postgres: %w", err), folder.Remove())
	}
	return folder, nil
}

// temporary is the folder for temporary files; for root, the first that is open to the user who
// will need it.
func (o owner) temporary() string {
	dirs := []string{os.TempDir(), "/tmp", "/var/tmp"}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); o.credential != nil && err == nil && info.IsDir() && cache.OpenToAll(dir) {
			return dir
		}
	}
	return dirs[0]
}

// own gives a file or a folder with all that is in it to the owner.
func (o owner) own(path string) error {
	if o.credential == nil {
		return nil
	}
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(o.credential.Uid), int(o.credential.Gid))
	})
}
